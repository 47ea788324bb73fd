import { readFileSync } from 'node:fs';
import { messageOf } from '../../protocol/refusal.ts';
import { readSecretFile } from '../system/secret-file.ts';
import { sendLimitedRequest } from './http-request.ts';

const DEFAULT_PORT = 8006;
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** Proxmox refused a request, or is not available. */
export class ProxmoxError extends Error {
  override name = 'ProxmoxError';
}

/** Proxmox VE's API with a token: https://pve.proxmox.com/wiki/Proxmox_VE_API#API_Tokens */
export class ProxmoxApi {
  readonly node: string;
  readonly #base: string;
  readonly #token: string;
  readonly #ca: Buffer | undefined;

  /** Throws an Error if the token or the certificate is not readable. */
  constructor({ url, node, token_file, ca_file }: ApiFile) {
    const { hostname, port } = new URL(url);
    this.node = node;
    this.#base = `https://${hostname}:${port || DEFAULT_PORT}/api2/json`;
    this.#token = readSecretFile(token_file);
    this.#ca = ca_file === undefined ? undefined : readFileSync(ca_file);
  }

  /** Returns the `data` of the answer. Throws {@link ProxmoxError}. */
  async call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, params: Record<string, string> = {}): Promise<T> {
    const query = new URLSearchParams(params).toString();
    const inUrl = method !== 'POST' && query !== '';
    const { status, statusText, body } = await sendLimitedRequest({
      url: `${this.#base}${path}${inUrl ? `?${query}` : ''}`,
      method,
      body: method === 'POST' ? query : undefined,
      headers: {
        Authorization: `PVEAPIToken=${this.#token}`,
        ...(method === 'POST' ? { 'Content-Type': 'application/x-www-form-urlencoded' } : {}),
      },
      ca: this.#ca,
      timeout: TIMEOUT_MS,
      maxBytes: MAX_ANSWER_BYTES,
    }).catch((error: unknown) => {
      throw new ProxmoxError(`${method} ${path}: ${messageOf(error)}`);
    });
    const text = body.toString();
    if (status >= 300) throw new ProxmoxError(`${method} ${path}: ${status} ${statusText} ${readErrors(text)}`.trim());
    try {
      return (JSON.parse(text) as { data: T }).data;
    } catch {
      throw new ProxmoxError(`${method} ${path}: its answer is not JSON`);
    }
  }
}

function readErrors(text: string): string {
  try {
    const { errors } = JSON.parse(text) as { errors?: Record<string, string> };
    return Object.entries(errors ?? {})
      .map(([name, why]) => `${name}: ${why}`)
      .join('; ');
  } catch {
    return '';
  }
}

/** The address of the API and the token for it, as the generated programs pass it. */
export interface ApiFile {
  url: string;
  node: string;
  token_file: string;
  ca_file?: string | undefined;
}
