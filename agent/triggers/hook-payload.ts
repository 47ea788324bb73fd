import { Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';

/** The fields of a form in which GitHub and Uptime Kuma send their JSON. */
const JSON_FIELDS = ['payload', 'data'];
const FORM = /^(application\/x-www-form-urlencoded|multipart\/form-data)\s*(;|$)/i;

/**
 * Reads the payload of an authenticated delivery: JSON, or a form with JSON in one of its fields. Throws `Refused`:
 * `hook-media-type`, `hook-malformed`.
 */
export async function readPayload(
  body: Buffer,
  headers: Record<string, string | string[] | undefined>,
  hook: string,
): Promise<unknown> {
  const encoding = String(headers['content-encoding'] ?? 'identity');
  if (encoding !== 'identity') throw new Refused(refusals.hookMediaType(hook, `compressed by ${encoding}`));
  const type = String(headers['content-type'] ?? '');
  const text = FORM.test(type) ? await readForm(body, type, hook) : body.toString('utf8');
  try {
    return JSON.parse(text.replace(/^\ufeff/, '')) as unknown;
  } catch {
    throw new Refused(refusals.hookMalformed(hook, body.length === 0 ? 'it has no body' : 'it is not JSON'));
  }
}

async function readForm(body: Buffer, type: string, hook: string): Promise<string> {
  const form = await new Response(new Uint8Array(body), { headers: { 'Content-Type': type } })
    .formData()
    .catch(() => undefined);
  const found = JSON_FIELDS.map(field => form?.get(field)).find(value => typeof value === 'string');
  if (typeof found !== 'string')
    throw new Refused(refusals.hookMediaType(hook, `a form without JSON in the field ${JSON_FIELDS.join(' or ')}`));
  return found;
}
