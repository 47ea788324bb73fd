import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { problemsOf } from './check-workflows.ts';

const steps = (...lines: string[]): string =>
  [
    'on: push',
    'jobs:',
    '  build:',
    '    runs-on: ubuntu-latest',
    '    steps:',
    ...lines.map(line => `      ${line}`),
  ].join('\n');

/** Returns a step that prints an expression. */
const echo = (expression: string): string => `- run: echo $${`{{ ${expression} }}`}`;

describe('the workflow checker', () => {
  it('accepts the syntax that GitHub accepts today', async () => {
    const text = `
on: { push: {}, merge_group: {}, schedule: [{ cron: '17 3 * * *', timezone: Europe/Berlin }] }
permissions: { attestations: write, models: read, id-token: write }
concurrency: { group: 'ci-\${{ github.ref }}', cancel-in-progress: true }
jobs:
  first:
    runs-on: ubuntu-24.04-arm
    strategy: { matrix: { shard: [1, 2] } }
    outputs: { digest: '\${{ steps.make.outputs.digest }}' }
    steps: [{ id: make, run: 'echo "$SHARD"', env: { SHARD: '\${{ matrix.shard }}' } }]
  second:
    needs: first
    runs-on: { group: large }
    steps: [{ run: 'true', env: { DIGEST: '\${{ needs.first.outputs.digest }}' } }]`;
    expect(await problemsOf('ci.yml', text)).toEqual([]);
  });

  it.each([
    ['an unknown key', steps('- run: ls', '  nmae: x'), { line: 7, message: "Unexpected value 'nmae'" }],
    ['a bad expression', steps(echo('github.ref ==')), { line: 6, message: /^Unexpected end of expression/ }],
    ['an unknown context', steps(echo('gihub.ref')), { line: 6, message: /Unrecognized named-value: 'gihub'/ }],
    ['an unknown function', steps(echo('hash(1)')), { line: 6, message: "Unrecognized function: 'hash'" }],
    [
      'a secret in a condition',
      steps('- if: secrets.KEY', '  run: ls'),
      { line: 6, message: /named-value: 'secrets'/ },
    ],
    [
      'an unknown event',
      'on: psuh\njobs: { a: { runs-on: x, steps: [] } }',
      { line: 1, message: "Unexpected value 'psuh'" },
    ],
    [
      'an unknown permission',
      steps().replace('on: push', 'on: push\npermissions: { content: read }'),
      { line: 2, message: /'content'/ },
    ],
    [
      'a bad cron line',
      steps('- run: ls').replace('push', '{ schedule: [{ cron: 99 * * * * }] }'),
      { line: 1, message: /cron/ },
    ],
    [
      'an unknown job',
      `${steps('- run: ls')}\n  test: { needs: lint, runs-on: x, steps: [{ run: ls }] }`,
      { line: 7, message: /unknown job 'lint'/ },
    ],
    ['an unknown step', steps(echo('steps.make.outputs.x')), { line: 6, message: "Job 'build' has no 'steps.make'." }],
    [
      'an unknown step in a condition',
      steps('- if: steps.make.outcome', '  run: ls'),
      { line: 6, message: /'steps.make'/ },
    ],
    ['an unknown matrix key', steps(echo('matrix.os')), { line: 6, message: "Job 'build' has no 'matrix.os'." }],
    ['a result of a job that it does not need', steps(echo('needs.a.result')), { line: 6, message: /'needs.a'/ }],
    [
      'a job that does nothing',
      'on: push\njobs:\n  idle:\n    runs-on: x',
      { line: 3, message: /neither steps nor uses/ },
    ],
    [
      'an id twice',
      steps('- { id: a, run: ls }', '- { id: a, run: ls }'),
      { line: 7, message: /may not be used more than once/ },
    ],
    ['broken YAML', 'on: push\njobs: { a: [', { line: 2, message: /Flow sequence/ }],
  ])('refuses %s', async (_, text, { line, message }) => {
    const [first] = await problemsOf('ci.yml', text);
    expect(first).toMatchObject({ line, message: expect.stringMatching(message) });
  });
});

describe('scripts/check-workflows.ts', () => {
  const dir = mkdtempSync(join(tmpdir(), 'chatops-workflows-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const run = () => {
    const { status, stdout } = spawnSync(process.execPath, [join(dir, 'scripts/check-workflows.ts')], {
      cwd: dir,
      encoding: 'utf8',
    });
    return { status, lines: stdout.trim().split('\n') };
  };
  cpSync('scripts/check-workflows.ts', join(dir, 'scripts/check-workflows.ts'), { recursive: true });
  symlinkSync(resolve('node_modules'), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');

  it('fails when it finds no workflow', () => {
    expect(run()).toEqual({ status: 1, lines: ['0 workflows, 0 problems'] });
  });

  it('names file, line and column of a problem, also in a documentation page', () => {
    mkdirSync(join(dir, '.github/workflows'), { recursive: true });
    writeFileSync(join(dir, '.github/workflows/ci.yml'), steps('- run: ls'));
    writeFileSync(join(dir, 'README.md'), `# Readme\n\n\`\`\`yaml workflow\n${steps('- rnu: ls')}\n\`\`\`\n`);
    expect(run()).toEqual({
      status: 1,
      lines: ["README.md:9:9: Unexpected value 'rnu'", expect.any(String), '2 workflows, 2 problems'],
    });
    writeFileSync(join(dir, 'README.md'), '');
    expect(run()).toEqual({ status: 0, lines: ['1 workflows, 0 problems'] });
  });
});
