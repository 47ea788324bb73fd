import { openRequest, readBody } from './http-request.ts';

const MAX_ANSWER_BYTES = 64 * 1024;

/** An HTTP request to a service that agent.yaml names. */
export interface HttpRequest {
  url: string;
  method: 'GET' | 'POST' | 'PUT';
  headers?: Record<string, string>;
  body?: string;
}

/** The part of the answer that the agent uses. `retryAfter` in seconds. */
export interface HttpResponse {
  status: number;
  retryAfter: number | undefined;
}

/** Sends a request and follows no redirect. Throws an Error whose message holds no part of the URL, which may be a secret. */
export async function sendRequest(
  { url, method, headers = {}, body }: HttpRequest,
  timeout: number,
): Promise<HttpResponse> {
  try {
    const response = await openRequest({
      ...{ url, method, body, agent: false, signal: AbortSignal.timeout(timeout) },
      headers: { 'User-Agent': 'chatops-agent', Connection: 'close', ...headers },
    });
    // The status counts, also if the body is too long, too slow or breaks off.
    await readBody(response, MAX_ANSWER_BYTES, 'cut').catch(() => undefined);
    return { status: response.statusCode ?? 0, retryAfter: Number(response.headers['retry-after']) || undefined };
  } catch (error) {
    const { name, code } = error as NodeJS.ErrnoException;
    throw new Error(name === 'AbortError' ? `no answer within ${timeout / 1000} s` : (code ?? 'it is not reachable'));
  }
}
