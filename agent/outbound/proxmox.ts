import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { readSecretFile } from '../system/secret-file.ts';

const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** Proxmox did not do what was asked, or can't be asked. */
export class ProxmoxError extends Error {
  override name = 'ProxmoxError';
}

/** Proxmox VE's API with a token: https://pve.proxmox.com/wiki/Proxmox_VE_API#API_Tokens */
export class ProxmoxApi {
  readonly node: string;
  readonly #url: URL;
  readonly #token: string;
  readonly #ca: Buffer | undefined;

  /** Throws an Error where the token or the certificate can't be read. */
  constructor({ url, node, token_file, ca_file }: ApiFile) {
    this.node = node;
    this.#url = new URL(url);
    this.#token = readSecretFile(token_file);
    this.#ca = ca_file === undefined ? undefined : readFileSync(ca_file);
  }

  /** The `data` of the answer. Throws {@link ProxmoxError}. */
  call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, params: Record<string, string> = {}): Promise<T> {
    const query = new URLSearchParams(params).toString();
    const inUrl = method !== 'POST' && query !== '';
    return new Promise((done, fail) => {
      const asked = request(
        {
          host: this.#url.hostname.replace(/^\[|\]$/g, ''),
          port: this.#url.port || 8006,
          method,
          path: `/api2/json${path}${inUrl ? `?${query}` : ''}`,
          timeout: TIMEOUT_MS,
          headers: {
            Authorization: `PVEAPIToken=${this.#token}`,
            ...(method === 'POST'
              ? { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': Buffer.byteLength(query) }
              : {}),
          },
          ...(this.#ca === undefined ? {} : { ca: this.#ca }),
        },
        response => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
            if (text.length > MAX_ANSWER_BYTES) asked.destroy(new Error('its answer is too large'));
          });
          response.on('end', () => {
            const { statusCode = 0, statusMessage = '' } = response;
            if (statusCode >= 300)
              return fail(
                new ProxmoxError(`${method} ${path}: ${statusCode} ${statusMessage} ${readErrors(text)}`.trim()),
              );
            try {
              done((JSON.parse(text) as { data: T }).data);
            } catch {
              fail(new ProxmoxError(`${method} ${path}: its answer is not JSON`));
            }
          });
          response.on('error', error => fail(new ProxmoxError(`${method} ${path}: ${error.message}`)));
        },
      );
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      asked.on('error', error => fail(new ProxmoxError(`${method} ${path}: ${error.message}`)));
      asked.end(method === 'POST' ? query : undefined);
    });
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

/** Where the programs find the API. */
export interface ApiFile {
  url: string;
  node: string;
  token_file: string;
  ca_file?: string | undefined;
}
