import type { Random } from '../faults/random.ts';

/** Texts that break parsers, paths, shells, logs and prototypes. */
const HOSTILE = [
  '',
  '-',
  '--',
  '--rsh=sh',
  '-o ProxyCommand=x',
  '..',
  '../..',
  '/',
  '/etc/passwd',
  '//',
  '.',
  '\\',
  '\0',
  '\r',
  '\n',
  '\r\n',
  '\t',
  '\u001b[2K',
  '\u2028',
  '\ufeff',
  '\u202e',
  '$(id)',
  '`id`',
  '$HOME',
  ';id',
  '|id',
  '&&id',
  "'",
  '"',
  '%2e%2e%2f',
  '%00',
  '::error::x',
  '::set-output name=status::x',
  '##[error]x',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'null',
  'true',
  '~',
  '*',
  '&a',
  '*a',
  '!!js/function x',
  '<<',
  '&a [*a]',
  '&a {x: *a}',
  '? ',
  '- ',
  ': ',
  '{',
  '}',
  '[',
  ']',
  '0',
  '-1',
  '1e999',
  'NaN',
  '9007199254740993',
  '0x10',
  '1_000',
  'é',
  '😀',
  '.git',
  '.GIT/config',
  'a'.repeat(300),
  'javascript:1',
  'http://169.254.169.254/',
  'file:///etc/passwd',
  'rsync://x/y',
  'x@y:/z',
];

/** Changes a text at a few positions: removes, doubles or inserts characters, cuts it, or inserts a hostile text. */
export function mutateText(text: string, random: Random, limit = 4): string {
  let changed = text;
  for (let left = 1 + random.below(limit); left > 0; left--) {
    const at = random.below(changed.length + 1);
    const to = Math.min(changed.length, at + random.below(12));
    switch (random.below(7)) {
      case 0:
        changed = changed.slice(0, at) + changed.slice(to);
        break;
      case 1:
        changed = changed.slice(0, to) + changed.slice(at, to) + changed.slice(to);
        break;
      case 2:
        changed = changed.slice(0, at) + random.pick(HOSTILE) + changed.slice(at);
        break;
      case 3:
        changed = changed.slice(0, at) + String.fromCharCode(random.below(256)) + changed.slice(at + 1);
        break;
      case 4:
        changed = changed.slice(0, at) + random.pick(HOSTILE) + changed.slice(to);
        break;
      case 5:
        changed = changed.slice(0, at);
        break;
      default:
        changed = changed.slice(0, at) + String.fromCodePoint(random.below(0x3000)) + changed.slice(at);
    }
  }
  return changed;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Changes one part of a value: changes, removes or doubles it, or adds a wrong one. */
export function mutateValue(value: Json, random: Random): Json {
  if (Array.isArray(value) && value.length > 0 && random.below(4) > 0) {
    const at = random.below(value.length);
    const copy = [...value];
    const kind = random.below(6);
    if (kind === 0) copy.splice(at, 1);
    else if (kind === 1) copy.push(copy[at] ?? null);
    else copy[at] = mutateValue(copy[at] ?? null, random);
    return copy;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && random.below(8) > 0) {
    const keys = Object.keys(value);
    const key = keys.length > 0 ? random.pick(keys) : '';
    const copy: { [key: string]: Json } = { ...value };
    const kind = random.below(9);
    if (kind === 0) delete copy[key];
    else if (kind === 1)
      Object.defineProperty(copy, random.pick(HOSTILE), {
        value: anyValue(random),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    else copy[key] = mutateValue(copy[key] ?? null, random);
    return copy;
  }
  if (typeof value === 'string' && random.below(3) > 0) return mutateText(value, random, 2);
  return anyValue(random);
}

function anyValue(random: Random): Json {
  return random.pick<Json>([
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e21,
    Number.MAX_SAFE_INTEGER,
    '',
    [],
    {},
    [[[[]]]],
    { a: 1 },
    random.pick(HOSTILE),
    random.pick(HOSTILE),
    random.pick(HOSTILE),
    [random.pick(HOSTILE)],
    { [random.pick(HOSTILE)]: random.pick(HOSTILE) },
  ]);
}

/** A path of a few segments, most of them harmless. */
export function randomPath(random: Random): string {
  const parts = Array.from({ length: 1 + random.below(4) }, () =>
    random.below(3) > 0 ? random.pick(['a', 'b.yaml', 'conf.d', 'compose.yaml', '.env', '…']) : random.pick(HOSTILE),
  );
  return parts.join('/');
}
