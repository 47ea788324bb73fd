import { globSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseDuration } from './duration.ts';
import { Intent } from './intent.ts';
import { intentJsonSchema } from './json-schema.ts';
import { checkIntents, loadIntents } from './load.ts';
import { InvalidIntents, type Problem } from './problem.ts';
import { validateFiles } from './validate.ts';

const ROLLOUT = 'action: rollout\nstack: stack-media\n';
const load = (text: string, params = {}) => loadIntents([{ file: 'a/b.yaml', text }], params);
function problemsOf(text: string, params = {}): Problem[] {
  try {
    load(text, params);
  } catch (error) {
    if (error instanceof InvalidIntents) return error.problems;
    throw error;
  }
  return [];
}
const examples = globSync('intents/examples/*.yaml').sort();

describe('an intent file', () => {
  it('of the first generation is parsed with every field', () => {
    const text = readFileSync('intents/examples/rollout_stack_media.yaml', 'utf8');
    expect(load(text)).toEqual([
      {
        file: 'a/b.yaml',
        name: 'b',
        document: 1,
        documents: 1,
        line: 3,
        intent: {
          label_required: 'approved-by-gemini',
          action: 'rollout',
          stack: 'stack-media',
          service: 'plex',
          compose: '/opt/stacks/stack-media/docker-compose.yml',
        },
      },
    ]);
  });

  it('may hold several documents, in order', () => {
    const loaded = load(`${ROLLOUT}---\naction: scale\nstack: s\nservice: a\nreplicas: 0\n`);
    expect(loaded).toEqual([
      expect.objectContaining({ document: 1, documents: 2, intent: expect.objectContaining({ action: 'rollout' }) }),
      expect.objectContaining({ document: 2, documents: 2, intent: expect.objectContaining({ action: 'scale' }) }),
    ]);
  });

  it.each(examples)('%s is valid, and stays the same after JSON', path => {
    const text = readFileSync(path, 'utf8');
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\.\/intent\.schema\.json\n/);
    const loaded = loadIntents([{ file: path, text }]);
    for (const { intent } of loaded) expect(Intent.parse(JSON.parse(JSON.stringify(intent)))).toEqual(intent);
  });

  it('may have a BOM and CR LF', () => {
    expect(load(`\uFEFF${ROLLOUT.replaceAll('\n', '\r\n')}`)).toHaveLength(1);
  });
});

describe('a problem of an intent file has a position and a remedy', () => {
  it.each([
    ['an unknown key', `${ROLLOUT}servce: plex\n`, 'unknown-key', 3, 1, 'Did you mean "service"?'],
    [
      'a key with a dash',
      `action: scale\nstack: s\nservice: a\nreplicas: 1\nlabel-required: x\n`,
      'unknown-key',
      5,
      1,
      'label_required',
    ],
    ['a missing service', 'action: scale\nstack: s\nreplicas: 1\n', 'missing-key', 1, 1, 'service'],
    ['negative replicas', 'action: scale\nstack: s\nservice: a\nreplicas: -1\n', 'wrong-value', 4, 11, ''],
    ['replicas as text', 'action: scale\nstack: s\nservice: a\nreplicas: many\n', 'wrong-value', 4, 11, 'number'],
    ['an unknown action', 'action: rolout\nstack: s\n', 'unknown-action', 1, 9, 'Write "rollout".'],
    ['no action', 'stack: s\n', 'missing-key', 1, 1, 'rollout, scale, rollback, backup, restore'],
    ['a path that climbs', `${ROLLOUT}compose: /opt/../etc/x.yml\n`, 'wrong-value', 3, 10, ''],
    ['a source_dir that is absolute', `${ROLLOUT}source_dir: /etc\n`, 'wrong-value', 3, 13, ''],
    ['a name that is an option', 'action: rollout\nstack: --help\n', 'wrong-value', 2, 8, ''],
    ['a name with a slash', 'action: rollout\nstack: a/b\n', 'wrong-value', 2, 8, ''],
    ['a wrong duration', `${ROLLOUT}timeout: 5 minutes\n`, 'wrong-value', 3, 10, ''],
    [
      'a second document',
      `${ROLLOUT}---\naction: scale\nstack: s\nservice: a\nreplica: 1\nreplicas: 1\n`,
      'unknown-key',
      7,
      1,
      'replicas',
    ],
    ['a duplicate key', `${ROLLOUT}stack: other\n`, 'duplicate-key', 3, 1, ''],
    ['broken YAML', 'action: [rollout\nstack: x\n', 'yaml-syntax', 2, 1, ''],
    ['a tab', 'action: rollout\n\tstack: x\n', 'yaml-syntax', 2, 1, 'spaces'],
    ['a list', '- rollout\n', 'not-a-mapping', 1, 1, 'action'],
    ['an empty file', '', 'empty', 1, 1, ''],
    ['an empty document', `${ROLLOUT}---\n`, 'empty', 3, 4, '---'],
    ['a prototype', `${ROLLOUT}__proto__: {polluted: true}\n`, 'forbidden-key', 3, 1, ''],
    ['a constructor', `${ROLLOUT}constructor: {}\n`, 'forbidden-key', 3, 1, ''],
    ['a merge key', `a: &a {action: rollout}\n<<: *a\nstack: s\n`, 'forbidden-key', 2, 1, ''],
    ['a custom tag', 'action: !!js/function rollout\nstack: s\n', 'yaml-syntax', 1, 9, 'tag'],
    ['a backup of no kind', 'action: backup\nvm_id: 1\n', 'wrong-value', 1, 1, 'backup_type'],
    [
      'a guest number too small',
      'action: backup\nbackup_type: vm_proxmox\nvm_id: 1\nstorage: s\n',
      'wrong-value',
      3,
      8,
      '',
    ],
    [
      'an unknown compression',
      'action: backup\nbackup_type: vm_proxmox\nvm_id: 101\nstorage: s\ncompress: rar\n',
      'wrong-value',
      5,
      11,
      'zstd',
    ],
    [
      'a volume backup without a source',
      'action: backup\nbackup_type: docker_volumes\ndestination: /mnt\n',
      'wrong-value',
      1,
      1,
      '',
    ],
    [
      'a destination that is an option',
      'action: backup\nbackup_type: docker_volumes\nsource: /a\ndestination: -e sh\n',
      'wrong-value',
      4,
      14,
      '',
    ],
    ['a doubled id', `${ROLLOUT}id: a\n---\n${ROLLOUT}id: a\n`, 'duplicate-id', 7, 5, ''],
  ])('for %s', (_, text, code, line, column, instead) => {
    const [problem] = problemsOf(text);
    expect(problem).toMatchObject({ code, line, column, file: 'a/b.yaml' });
    expect(problem?.instead).toContain(instead);
  });

  it('is reported together with all others, not only the first', () => {
    expect(
      problemsOf('action: scale\nstac: s\n')
        .map(({ code }) => code)
        .sort(),
    ).toEqual(['missing-key', 'missing-key', 'missing-key', 'unknown-key']);
  });

  it.each(['stack: *nothing', 'stack: &a [*a]'])('for an alias without a valid anchor: %s', line => {
    expect(problemsOf(`action: rollout\n${line}\n`)[0]).toMatchObject({
      code: 'yaml-syntax',
      instead: 'Write the value in place of the alias.',
    });
  });

  it('limits aliases before they expand', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (let level = 1; level < 9; level++)
      bomb.push(
        `${'abcdefghi'[level]}: &${'abcdefghi'[level]} [${Array(9)
          .fill(`*${'abcdefghi'[level - 1]}`)
          .join(',')}]`,
      );
    const began = performance.now();
    expect(problemsOf(bomb.join('\n'))[0]?.code).toBe('too-many-aliases');
    expect(performance.now() - began).toBeLessThan(2000);
  });

  it('for a file that is too large or has too many documents', () => {
    expect(problemsOf(`${ROLLOUT}# ${'x'.repeat(300_000)}`)[0]?.code).toBe('too-large');
    expect(problemsOf(`${ROLLOUT}---\n`.repeat(101))[0]?.code).toBe('too-many-documents');
  });

  it('for a prototype key, which changes no other object', () => {
    problemsOf(`${ROLLOUT}__proto__: {polluted: true}\n`);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe('parameters of an intent', () => {
  const TAGGED = `${ROLLOUT}service: "{{ params.svc }}-{{ params.n }}"\nparams:\n  svc: {type: string, pattern: "[a-z]+"}\n  n: {type: number, default: 2}\n`;

  it('replace scalar values, in their declared type', () => {
    expect(load(TAGGED, { svc: 'plex' })[0]?.intent).toMatchObject({ service: 'plex-2' });
    const scaled = load(
      'action: scale\nstack: s\nservice: a\nreplicas: "{{ params.n }}"\nparams:\n  n: {type: number}\n',
      { n: '3' },
    );
    expect(scaled[0]?.intent).toMatchObject({ replicas: 3 });
    expect(scaled[0]?.intent).not.toHaveProperty('params');
  });

  it.each([
    ['missing', TAGGED, {}, 'missing-param'],
    ['not matching', TAGGED, { svc: 'A B' }, 'wrong-param'],
    ['a template again', TAGGED.replace('[a-z]+', '.+'), { svc: '{{ params.n }}' }, 'wrong-param'],
    ['more YAML', TAGGED.replace('[a-z]+', '.+'), { svc: 'x\nreplicas: 9' }, 'wrong-param'],
    ['not declared', TAGGED, { svc: 'a', tag: '1' }, 'unknown-param'],
    ['used without a declaration', `${ROLLOUT}service: "{{ params.tag }}"\n`, {}, 'unknown-param'],
    ['code', `${ROLLOUT}service: "{{ process.env.HOME }}"\n`, {}, 'unknown-param'],
    ['a pattern that never ends', TAGGED.replace('[a-z]+', '(a+)+b'), { svc: 'a' }, 'wrong-value'],
  ])('are refused if the value or the template is wrong: %s', (_, text, params, code) => {
    expect(problemsOf(text, params)[0]?.code).toBe(code);
  });

  it('pass through filters, in order', () => {
    const at = new Date('2026-11-21T06:07:08Z');
    const value = (template: string, given = {}) => {
      const text = `${ROLLOUT}service: '${template}'\nparams: {p: {type: string}}\n`;
      return loadIntents([{ file: 'a.yaml', text }], given, at)[0]?.intent;
    };
    expect(value('{{ params.p | default: "A" | lower }}')).toMatchObject({ service: 'a' });
    expect(value('{{params.p|default:"a"|upper}}', { p: 'b' })).toMatchObject({ service: 'B' });
    expect(value('d{{ params.p | date: "%j-%H%M%S" }}', { p: 'now' })).toMatchObject({ service: 'd325-060708' });
    const early = { p: '2026-01-02T00:30:00+01:00' };
    expect(value('{{ params.p | date: "%Y%m%d" }}', early)).toMatchObject({ service: '20260101' });
    const scaled =
      'action: scale\nstack: s\nservice: a\nreplicas: "{{ params.n | default: 3 }}"\nparams: {n: {type: number}}\n';
    expect(load(scaled)[0]?.intent).toMatchObject({ replicas: 3 });
  });

  it.each([
    ['an unknown filter', '| lwoer', 'Did you mean "lower"?'],
    ['a filter without its argument', '| default', 'default: "text"'],
    ['a filter with an argument too many', '| lower: "x"', 'lower }}'],
    ['an invalid date', '| date: "%Y"', '2026-11-21'],
  ])('are refused with a filter that can’t be applied: %s', (_, filter, instead) => {
    const [problem] = problemsOf(
      `${ROLLOUT}service: '{{ params.p ${filter} }}'\nparams: {p: {type: string, default: x}}\n`,
    );
    expect(problem).toMatchObject({ code: 'wrong-filter', line: 3, instead: expect.stringContaining(instead) });
  });

  it('without a value are missing if one of their uses has no default', () => {
    const text = `${ROLLOUT}service: "{{ params.p | default: 'x' }}{{ params.p }}"\nparams: {p: {type: string}}\n`;
    expect(problemsOf(text)[0]?.code).toBe('missing-param');
  });

  it('may be missing while a file is only checked', () => {
    expect(checkIntents([{ file: 'a.yaml', text: TAGGED }])[0]?.problems).toEqual([]);
  });
});

describe('the list of mode validate', () => {
  it('has a line for each valid document and each problem', () => {
    const { lines, problems } = validateFiles([{ file: 'x.yaml', text: `${ROLLOUT}---\n${ROLLOUT}stak: a\n` }]);
    expect(lines).toEqual([
      '✓ x.yaml (doc 1/2): rollout on stack-media',
      '✗ x.yaml:6:1: document 2: The key "stak" is not known here. Did you mean "stack"?',
    ]);
    expect(problems).toHaveLength(1);
  });
});

describe('the JSON Schema of an intent', () => {
  const schema = intentJsonSchema();
  const check = new Ajv2020({ strict: false, formats: { uri: true } }).compile(schema);

  it('equals the committed file', () => {
    expect(JSON.parse(readFileSync('intents/intent.schema.json', 'utf8'))).toEqual(JSON.parse(JSON.stringify(schema)));
  });

  it.each(examples)('accepts %s', path => {
    for (const text of readFileSync(path, 'utf8').split(/^---$/m))
      expect(check(parse(text)), JSON.stringify(check.errors)).toBe(true);
  });

  it('refuses an unknown key and a missing one', () => {
    expect(check(parse(`${ROLLOUT}servce: a`))).toBe(false);
    expect(check(parse('action: scale\nstack: s\nservice: a'))).toBe(false);
  });
});

describe('the parser of durations', () => {
  it('returns milliseconds', () => {
    expect(['250ms', '30s', '10m', '1h', '2d'].map(parseDuration)).toEqual([
      250, 30_000, 600_000, 3_600_000, 172_800_000,
    ]);
  });
  it.each(['', '5', 's', '-1s', '1.5h', '10 m', '1w'])('refuses %j', text => {
    expect(() => parseDuration(text)).toThrow(RangeError);
  });
});
