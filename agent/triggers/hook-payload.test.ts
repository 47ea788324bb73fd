import { describe, expect, it } from 'vitest';
import { Refused } from '../../protocol/refusal.ts';
import { readPayload } from './hook-payload.ts';

const EVENT = { monitor: { name: 'plex' }, msg: 'down & out' };
const JSON_TEXT = JSON.stringify(EVENT);

/** Returns the body and content type with which a client sends this. */
async function sent(body: string | URLSearchParams | FormData): Promise<[Buffer, Record<string, string>]> {
  const request = new Request('http://agent/', { method: 'POST', body });
  return [Buffer.from(await request.arrayBuffer()), { 'content-type': request.headers.get('content-type') ?? '' }];
}
function form(field: string, text = JSON_TEXT): FormData {
  const data = new FormData();
  data.set('note', 'x');
  data.set(field, text);
  return data;
}
const answer = async (body: Buffer, headers: Record<string, string>) =>
  readPayload(body, headers, 'kuma').catch(error => {
    if (!(error instanceof Refused)) throw error;
    return error.code;
  });

describe('the payload of a delivery', () => {
  it.each<[string, string | URLSearchParams | FormData, unknown]>([
    ['JSON', JSON_TEXT, EVENT],
    ['JSON with a byte order mark', `\ufeff${JSON_TEXT}`, EVENT],
    ['GitHub’s form', new URLSearchParams({ payload: JSON_TEXT }), EVENT],
    ['Uptime Kuma’s form', form('data'), EVENT],
    ['a form without JSON', form('text'), 'hook-media-type'],
    ['a form with something else in the field', form('data', 'down'), 'hook-malformed'],
    ['text', 'down', 'hook-malformed'],
    ['nothing', '', 'hook-malformed'],
  ])('is read from what senders send: %s', async (_, body, expected) => {
    expect(await answer(...(await sent(body)))).toEqual(expected);
  });

  it('is refused if it is compressed or the form is cut off', async () => {
    const [body, headers] = await sent(form('data'));
    expect(await answer(body, { ...headers, 'content-encoding': 'gzip' })).toBe('hook-media-type');
    expect(await answer(body.subarray(0, 40), headers)).toBe('hook-media-type');
  });
});
