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
  it('of the first generation is read with every field', () => {
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
    expect(loaded.map(({ document, documents, intent }) => [document, documents, intent.action])).toEqual([
      [1, 2, 'rollout'],
      [2, 2, 'scale'],
    ]);
  });

  it.each(examples)('%s is valid, and reads the same after JSON', path => {
    const text = readFileSync(path, 'utf8');
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\.\/intent\.schema\.json\n/);
    const loaded = loadIntents([{ file: path, text }]);
    for (const { intent } of loaded) expect(Intent.parse(JSON.parse(JSON.stringify(intent)))).toEqual(intent);
  });

  it('reads past a BOM and CR LF', () => {
    expect(load(`\uFEFF${ROLLOUT.replaceAll('\n', '\r\n')}`)).toHaveLength(1);
  });
});

describe('what is wrong is told with its place and what to write instead', () => {
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
  ])('%s', (_, text, code, line, column, instead) => {
    const [problem] = problemsOf(text);
    expect(problem).toMatchObject({ code, line, column, file: 'a/b.yaml' });
    expect(problem?.instead).toContain(instead);
  });

  it('all at once, not only the first', () => {
    expect(
      problemsOf('action: scale\nstac: s\n')
        .map(({ code }) => code)
        .sort(),
    ).toEqual(['missing-key', 'missing-key', 'missing-key', 'unknown-key']);
  });

  it.each(['stack: *nothing', 'stack: &a [*a]'])('an alias that leads nowhere is told: %s', line => {
    expect(problemsOf(`action: rollout\n${line}\n`)[0]).toMatchObject({
      code: 'yaml-syntax',
      instead: 'Write the value out.',
    });
  });

  it('aliases can not blow a document up', () => {
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

  it('size and number are limited', () => {
    expect(problemsOf(`${ROLLOUT}# ${'x'.repeat(300_000)}`)[0]?.code).toBe('too-large');
    expect(problemsOf(`${ROLLOUT}---\n`.repeat(101))[0]?.code).toBe('too-many-documents');
  });

  it('prototype keys change nothing for anybody else', () => {
    problemsOf(`${ROLLOUT}__proto__: {polluted: true}\n`);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe('parameters', () => {
  const TAGGED = `${ROLLOUT}service: "{{ params.svc }}-{{ params.n }}"\nparams:\n  svc: {type: string, pattern: "[a-z]+"}\n  n: {type: number, default: 2}\n`;

  it('fill scalar values in their declared type', () => {
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
    ['superfluous', TAGGED, { svc: 'a', tag: '1' }, 'unknown-param'],
    ['undeclared', `${ROLLOUT}service: "{{ params.tag }}"\n`, {}, 'unknown-param'],
    ['code', `${ROLLOUT}service: "{{ process.env.HOME }}"\n`, {}, 'unknown-param'],
    ['a pattern that never ends', TAGGED.replace('[a-z]+', '(a+)+b'), { svc: 'a' }, 'wrong-value'],
  ])('are refused: %s', (_, text, params, code) => {
    expect(problemsOf(text, params)[0]?.code).toBe(code);
  });

  it('go through filters, in order', () => {
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
    ['one that nobody knows', '| lwoer', 'Did you mean "lower"?'],
    ['one without its value', '| default', 'default: "text"'],
    ['one with a value too many', '| lower: "x"', 'lower }}'],
    ['a date that is none', '| date: "%Y"', '2026-11-21'],
  ])('are refused with a filter that can’t be used: %s', (_, filter, instead) => {
    const [problem] = problemsOf(
      `${ROLLOUT}service: '{{ params.p ${filter} }}'\nparams: {p: {type: string, default: x}}\n`,
    );
    expect([problem?.code, problem?.line, problem?.instead]).toEqual([
      'wrong-filter',
      3,
      expect.stringContaining(instead),
    ]);
  });

  it('without a value, used once with a default and once without, are missed', () => {
    const text = `${ROLLOUT}service: "{{ params.p | default: 'x' }}{{ params.p }}"\nparams: {p: {type: string}}\n`;
    expect(problemsOf(text)[0]?.code).toBe('missing-param');
  });

  it('that nobody gave yet are no problem of the file', () => {
    expect(checkIntents([{ file: 'a.yaml', text: TAGGED }])[0]?.problems).toEqual([]);
  });
});

describe('the list of mode validate', () => {
  it('has a line for each document and each problem', () => {
    const { lines, problems } = validateFiles([{ file: 'x.yaml', text: `${ROLLOUT}---\n${ROLLOUT}stak: a\n` }]);
    expect(lines).toEqual([
      '✓ x.yaml (doc 1/2): rollout on stack-media',
      '✗ x.yaml:6:1: document 2: The key "stak" is not known here. Did you mean "stack"?',
    ]);
    expect(problems).toHaveLength(1);
  });
});

describe('the JSON Schema', () => {
  const schema = intentJsonSchema();
  const check = new Ajv2020({ strict: false, formats: { uri: true } }).compile(schema);

  it('is the committed one', () => {
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

describe('durations', () => {
  it('are milliseconds', () => {
    expect(['250ms', '30s', '10m', '1h', '2d'].map(parseDuration)).toEqual([
      250, 30_000, 600_000, 3_600_000, 172_800_000,
    ]);
  });
  it.each(['', '5', 's', '-1s', '1.5h', '10 m', '1w'])('do not read %j', text => {
    expect(() => parseDuration(text)).toThrow(RangeError);
  });
});
