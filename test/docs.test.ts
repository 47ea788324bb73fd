import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { AUTH_REASONS } from '../agent/admission/auth-reasons.ts';
import { configJsonSchema, parseConfig } from '../agent/config/load.ts';
import { loadIntents } from '../intents/load.ts';
import { readSecretKey } from '../protocol/keys.ts';

const pages = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', ...globSync('docs/**/*.md')];
const fences = (kind: string) =>
  pages.flatMap(page =>
    [...readFileSync(page, 'utf8').matchAll(new RegExp(`^\`\`\`yaml ${kind}\\n(.*?)^\`\`\``, 'gms'))].map(
      ([, text = ''], index) => ({ name: `${page} ${index + 1}`, page, text }),
    ),
  );
const sources = (pattern: string) =>
  globSync(pattern)
    .filter(path => !path.endsWith('.test.ts'))
    .map(path => readFileSync(path, 'utf8'))
    .join('\n');

describe('the documentation', () => {
  it.each(fences('intent'))('shows intents that are valid: $name', ({ page, text }) => {
    expect(loadIntents([{ file: page, text }])).not.toHaveLength(0);
  });

  it.each(fences('agent'))('shows configurations that are valid: $name', ({ page, text }) => {
    expect(parseConfig(text, page).agent).toBe('whitebox');
  });

  it.each(fences('workflow'))('shows workflows whose inputs the action has: $name', ({ text }) => {
    const known = Object.keys((parse(readFileSync('action.yml', 'utf8')) as { inputs: object }).inputs);
    const steps = Object.values(
      (parse(text) as { jobs: Record<string, { steps: { uses: string; with?: object }[] }> }).jobs,
    ).flatMap(job => job.steps);
    const ours = steps.filter(({ uses }) => uses.includes('chatops-action'));
    expect(ours).not.toHaveLength(0);
    for (const { with: given = {} } of ours) for (const name of Object.keys(given)) expect(known).toContain(name);
  });

  it('has examples of each kind', () => {
    for (const kind of ['intent', 'agent', 'workflow']) expect(fences(kind).length).toBeGreaterThan(0);
  });

  it('has a heading for every code that anybody can be told', () => {
    const text = sources('{action,agent,client,protocol}/**/*.ts');
    const told = [
      ...text.matchAll(/(?:refusal|refused|CannotPlan|FileFailure)\(\s*(?:code === 'ENOENT' \? )?'([a-z-]+)'/g),
      ...text.matchAll(/\bcode: '([a-z-]+)'/g),
      ...text.matchAll(/code = '([a-z-]+)'/g),
      ...text.matchAll(/(?:reason: |\? |: |stop\()'((?:agent|look|step)-[a-z]+)'/g),
    ].map(([, code]) => code);
    const headings = new Set(
      [...readFileSync('docs/refusals.md', 'utf8').matchAll(/^### ([a-z-]+)$/gm)].map(([, code]) => code),
    );
    expect(new Set(told).size).toBeGreaterThan(60);
    expect(
      [...new Set(told)].filter(
        // The last one is the name of an option of the command line.
        code => !['custom', 'step-started', 'step-finished', 'agent-key'].includes(code ?? '') && !headings.has(code),
      ),
    ).toEqual([]);
    for (const code of Object.keys(AUTH_REASONS)) expect(headings).toContain(code);
  });

  it('names every problem of an intent', () => {
    const codes = [...readFileSync('intents/problem.ts', 'utf8').matchAll(/\| '([a-z-]+)'/g)].map(([, code]) => code);
    for (const code of codes)
      expect(readFileSync('docs/refusals.md', 'utf8')).toMatch(new RegExp(`^\\| \`${code}\` +\\|`, 'm'));
  });

  it('links only to what is there', () => {
    for (const page of pages) {
      for (const [, to = ''] of readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
        expect(existsSync(join(dirname(page), to)), `${page} → ${to}`).toBe(true);
      }
    }
  });

  it('names for each claim about security a test that is there', () => {
    const page = readFileSync('docs/security.md', 'utf8');
    const claims = [
      ...page.matchAll(/\]\(\.\.\/((?:test|agent|action|client)\/[\w./-]+\.test\.ts)\): ((?:"[^"]+"(?:, )?)+)/g),
    ].flatMap(([, file = '', titles = '']) =>
      [...titles.matchAll(/"([^"]+)"/g)].map(([, title = '']) => ({ file, title })),
    );
    expect(claims.length).toBeGreaterThan(45);
    for (const { file, title } of claims) expect(readFileSync(file, 'utf8'), `${file}: ${title}`).toContain(title);
  });

  it('lists every metric of ours', () => {
    const names = [...readFileSync('agent/observability/metrics.ts', 'utf8').matchAll(/'(chatops_[a-z_]+)'/g)].map(
      ([, name]) => name,
    );
    for (const name of names) expect(readFileSync('docs/agent.md', 'utf8')).toContain(`\`${name}\``);
  });

  it('has the JSON Schema of agent.yaml that the code has', () => {
    expect(JSON.parse(readFileSync('agent/agent.schema.json', 'utf8'))).toEqual(
      JSON.parse(JSON.stringify(configJsonSchema())),
    );
  });
});

describe('the command line, as built', () => {
  const chatops = (...args: string[]) =>
    spawnSync(process.execPath, ['dist/agent/index.js', ...args], { encoding: 'utf8', env: { PATH: '/nonexistent' } });

  it('finds the policy of the documentation to be what it says', () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-docs-'));
    try {
      const [agent] = fences('agent').filter(({ page }) => page === 'docs/policy.md');
      writeFileSync(join(dir, 'agent.yaml'), agent?.text ?? '', { mode: 0o600 });
      for (const [index, { text }] of fences('cases').entries()) writeFileSync(join(dir, `cases-${index}.yaml`), text);
      const done = chatops('policy', 'test', join(dir, 'cases-0.yaml'), '--config', join(dir, 'agent.yaml'));
      expect([done.status, done.stdout.split('\n').length], done.stdout + done.stderr).toEqual([0, 3]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('validates with 0 or 1', () => {
    const good = chatops('validate', ...globSync('intents/examples/*.yaml'));
    expect([good.status, good.stdout]).toEqual([
      0,
      expect.stringContaining('✓ intents/examples/rollout_stack_media.yaml (doc 1/1): rollout on stack-media'),
    ]);
    const bad = chatops('validate', 'package.json');
    expect([bad.status, bad.stdout]).toEqual([1, expect.stringContaining('✗ package.json:')]);
    expect(chatops('validate').status).toBe(2);
  });

  it('shows a dry run without an agent, and starts nothing', () => {
    const all = chatops('run', 'intents/examples/rollout_all_stacks.yaml', '--dry-run');
    // The third document ships a folder that is not in this repository.
    expect([all.status, all.stderr]).toEqual([1, expect.stringContaining('source-dir-missing')]);
    const media = chatops('run', 'intents/examples/rollout_stack_media.yaml', '--dry-run');
    expect(media.status).toBe(0);
    expect(
      media.stdout
        .split('\n')
        .filter(Boolean)
        .every(line => line.startsWith('[DRY-RUN] ')),
    ).toBe(true);
    expect(media.stdout).toContain('up --detach --no-build --remove-orphans plex');
    expect(
      JSON.parse(
        chatops('run', 'intents/examples/scale_stack_content.yaml', '--dry-run', '--json', '--param', 'replicas=3')
          .stdout,
      )[0].plan.title,
    ).toBe('scale nextcloud on stack-content to 3');
    const copy = chatops('run', 'intents/examples/backup_docker_volumes.yaml', '--dry-run');
    expect([copy.status, copy.stdout], copy.stderr).toEqual([0, expect.stringContaining('rsync --archive')]);
    const alone = chatops('run', 'intents/examples/rollout_stack_media.yaml', '--socket', '/nonexistent.sock');
    expect([alone.status, alone.stderr]).toEqual([1, expect.stringContaining('agent-unreachable')]);
    const database = chatops('run', 'intents/examples/backup_plex_database.yaml', '--dry-run');
    expect([database.status, database.stdout], database.stderr).toEqual([0, expect.stringContaining('Plex SQLite')]);
  });

  it('makes keys that sign, and never overwrites one', () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-keys-'));
    const file = join(dir, 'key');
    const made = chatops('keygen', '--out', file);
    expect(made.stdout).toContain(readSecretKey(readFileSync(file, 'utf8')).public.text);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(chatops('keygen', '--out', file).status).toBe(1);
    rmSync(dir, { recursive: true });
  });

  it('says how it is called', () => {
    expect(chatops('--help').stdout).toContain('chatops validate');
    expect([chatops().status, chatops('frobnicate').status, chatops('agent', '--port').status]).toEqual([2, 2, 2]);
    expect(chatops('config', 'check', 'package.json').stderr).toContain('package.json:');
  });
});

describe('make', () => {
  it('help lists every target', () => {
    const help = execFileSync('make', ['help'], { encoding: 'utf8' });
    for (const target of ['demo', 'test', 'check', 'build', 'bench', 'faults', 'setup'])
      expect(help).toMatch(new RegExp(`make ${target} +\\S`));
  });
});
