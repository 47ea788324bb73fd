import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

const MAX_ANSWER_BYTES = 64 * 1024;

/** An HTTP request to somebody whom agent.yaml names. */
export interface HttpRequest {
  url: string;
  method: 'GET' | 'POST' | 'PUT';
  headers?: Record<string, string>;
  body?: string;
}

/** Its answer, as far as anybody looks at it. `retryAfter` in seconds. */
export interface HttpResponse {
  status: number;
  retryAfter: number | undefined;
}

/** Sends it and follows nothing. Throws an Error whose message holds no part of the address, which may be a secret. */
export function sendRequest({ url, method, headers = {}, body }: HttpRequest, timeout: number): Promise<HttpResponse> {
  const to = new URL(url);
  return new Promise((done, fail) => {
    const asked = (to.protocol === 'https:' ? httpsRequest : httpRequest)(
      to,
      {
        method,
        agent: false,
        signal: AbortSignal.timeout(timeout),
        headers: {
          'User-Agent': 'chatops-agent',
          Connection: 'close',
          ...(body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) }),
          ...headers,
        },
      },
      response => {
        let bytes = 0;
        const answer = {
          status: response.statusCode ?? 0,
          retryAfter: Number(response.headers['retry-after']) || undefined,
        };
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes < MAX_ANSWER_BYTES) return;
          done(answer);
          asked.destroy();
        });
        response.on('end', () => done(answer));
        response.on('error', () => done(answer));
      },
    );
    asked.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        new Error(
          error.name === 'TimeoutError' || error.name === 'AbortError'
            ? `no answer within ${timeout / 1000} s`
            : (error.code ?? 'it can’t be reached'),
        ),
      ),
    );
    asked.end(body);
  });
}
