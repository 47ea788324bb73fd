import { type IncomingHttpHeaders, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';

/** A request to an absolute URL, over TCP, TLS or, with `socketPath`, a unix socket. */
export interface OpenRequest
  extends Pick<RequestOptions, 'socketPath' | 'host' | 'method' | 'lookup' | 'agent' | 'signal'> {
  url: string | URL;
  headers?: Record<string, string>;
  body?: string | undefined;
  /** Certificates (PEM) to trust in place of the system's. */
  ca?: Buffer | undefined;
}

/** A request with its limits. */
export interface LimitedRequest extends OpenRequest {
  /** Milliseconds for the whole exchange, however slowly bytes drip in. */
  timeout: number;
  maxBytes: number;
  /** The treatment of a body over `maxBytes`. */
  overflow?: 'cut' | 'fail';
}

export interface ReceivedResponse {
  status: number;
  statusText: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** Milliseconds since 1970 at which the head arrived. */
  receivedAt: number;
}

/** Sends a request and returns the response before its body is read. Follows no redirect. */
export function openRequest({ url, headers = {}, body, ...options }: OpenRequest): Promise<IncomingMessage> {
  const target = new URL(url);
  const length = body === undefined ? {} : { 'Content-Length': String(Buffer.byteLength(body)) };
  return new Promise((resolve, reject) => {
    const request = (target.protocol === 'https:' ? requestHttps : requestHttp)(
      target,
      { ...options, headers: { ...length, ...headers } },
      resolve,
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** Reads a body of at most `maxBytes`. Closes the connection of a longer one. */
export async function readBody(response: IncomingMessage, maxBytes: number, overflow = 'fail'): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes <= maxBytes) continue;
    if (overflow === 'fail') throw new Error('its answer is too large');
    return Buffer.concat(chunks, maxBytes);
  }
  return Buffer.concat(chunks);
}

/** Sends a request and reads the response within its limits. Throws an Error that completes a sentence. */
export async function sendLimitedRequest(limited: LimitedRequest): Promise<ReceivedResponse> {
  const { timeout, maxBytes, overflow, signal, ...request } = limited;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), timeout);
  try {
    const signals = signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal;
    const response = await openRequest({ ...request, signal: signals });
    const receivedAt = Date.now();
    const body = await readBody(response, maxBytes, overflow);
    const { statusCode: status = 0, statusMessage: statusText = '', headers } = response;
    return { status, statusText, headers, body, receivedAt };
  } catch (error) {
    throw deadline.signal.aborted ? new Error(`no answer within ${timeout / 1000} s`) : error;
  } finally {
    clearTimeout(timer);
  }
}
