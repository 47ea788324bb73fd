import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configJsonSchema, parseConfig } from '../agent/config/load.ts';
import { AUTH_REASONS, refusals } from '../agent/refusals.ts';
import { loadIntents } from '../intents/load.ts';
import { readSecretKey } from '../protocol/keys.ts';
import {
  codesInCode,
  readNotes,
  refusalsPage,
  sample,
  staleNotes,
  TABLES,
  type Table,
} from '../scripts/refusals-page.ts';
import { requireCurrentBundles } from '../scripts/source-digest.ts';

const pages = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', ...globSync('docs/**/*.md')];
const fencesOf = (kind: string) =>
  pages.flatMap(page =>
    [...readFileSync(page, 'utf8').matchAll(new RegExp(`^\`\`\`yaml ${kind}\\n(.*?)^\`\`\``, 'gms'))].map(
      ([, text = ''], index) => ({ name: `${page} ${index + 1}`, page, text }),
    ),
  );

describe('the documentation', () => {
  it.each(fencesOf('intent'))('shows only valid intents: $name', ({ page, text }) => {
    expect(loadIntents([{ file: page, text }])).not.toHaveLength(0);
  });

  it.each(fencesOf('agent'))('shows only valid configurations: $name', ({ page, text }) => {
    expect(parseConfig(text, page).agent).toBe('whitebox');
  });

  it.each(fencesOf('workflow'))('shows only workflows with inputs that the action has: $name', ({ text }) => {
    const known = Object.keys((parse(readFileSync('action.yml', 'utf8')) as { inputs: object }).inputs);
    const steps = Object.values(
      (parse(text) as { jobs: Record<string, { steps: { uses: string; with?: object }[] }> }).jobs,
    ).flatMap(job => job.steps);
    const ours = steps.filter(({ uses }) => uses.includes('chatops-action'));
    expect(ours).not.toHaveLength(0);
    for (const { with: given = {} } of ours) for (const name of Object.keys(given)) expect(known).toContain(name);
  });

  it('shows intents, configurations and workflows', () => {
    for (const kind of ['intent', 'agent', 'workflow']) expect(fencesOf(kind).length).toBeGreaterThan(0);
  });

  it('has a heading for each code that the source uses, and no notes for an unknown code', () => {
    const page = readFileSync('docs/refusals.md', 'utf8');
    const headings = new Set([...page.matchAll(/^### ([a-z-]+)$/gm)].map(([, code]) => code));
    const codes = codesInCode();
    expect(codes.size).toBeGreaterThan(150);
    expect(
      [...codes].filter(
        code => !['custom', 'step-started', 'step-finished', 'agent-key'].includes(code) && !headings.has(code),
      ),
    ).toEqual([]);
    for (const code of Object.keys(AUTH_REASONS)) expect(headings).toContain(code);
    expect(staleNotes()).toEqual([]);
    expect(staleNotes(readNotes('---\n## Other\n\n### no-such-code\n\nText.\n'))).toEqual(['no-such-code']);
  });

  it('has the page of refusals that the script generates from the code and the notes', () => {
    const page = readFileSync('docs/refusals.md', 'utf8');
    expect(page, 'run "npm run refusals"').toBe(refusalsPage());
    const changed = (address: string) => ({ ...refusals.peerUnknown(address), message: 'Changed.' });
    const tables = TABLES.map(
      ([section, table]) => [section, 'peerUnknown' in table ? { ...table, peerUnknown: changed } : table] as const,
    );
    expect(refusalsPage(tables)).not.toBe(page);
  });

  it('shows the parameter names of a refusal instead of values', () => {
    expect(sample(refusals.repositoryNotAllowed).message).toBe(
      'The key KEY_ID is not trusted for the repository REPOSITORY.',
    );
    expect(sample(refusals.outsideWindow).message).toBe("The time is outside the rule's windows: WINDOWS.");
    expect(() => sample(({ name }: { name: string }) => refusals.denied(name, ''))).toThrow('not a plain name');
  });

  it('shows refusals of the agent with a first sentence of at most 120 characters', () => {
    const long = Object.values(refusals)
      .map(build => sample(build as Table[string]).message.split(/(?<=[.;])\s/)[0] ?? '')
      .filter(sentence => sentence.length > 120);
    expect(long).toEqual([]);
  });

  it('lists each problem code of an intent', () => {
    const codes = [...readFileSync('intents/problem.ts', 'utf8').matchAll(/\| '([a-z-]+)'/g)].map(([, code]) => code);
    for (const code of codes)
      expect(readFileSync('docs/refusals.md', 'utf8')).toMatch(new RegExp(`^\\| \`${code}\` +\\|`, 'm'));
  });

  it('links only to files that exist', () => {
    for (const page of pages) {
      for (const [, to = ''] of readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
        expect(existsSync(join(dirname(page), to)), `${page} → ${to}`).toBe(true);
      }
    }
  });

  it('names an existing test for each claim about security', () => {
    const page = readFileSync('docs/security.md', 'utf8');
    const claims = [
      ...page.matchAll(
        /\]\(\.\.\/((?:test|agent|action|client|protocol)\/[\w./-]+\.test\.ts)\):\s+((?:"[^"]+"(?:, )?)+)/g,
      ),
    ].flatMap(([, file = '', titles = '']) =>
      [...titles.matchAll(/"([^"]+)"/g)].map(([, title = '']) => ({ file, title })),
    );
    expect(claims.length).toBeGreaterThan(45);
    const files = new Set(claims.map(({ file }) => file));
    const links = [...page.matchAll(/\]\(\.\.\/([\w./-]+\.test\.ts)\)/g)].map(([, file = '']) => file);
    expect(links.filter(file => !files.has(file))).toEqual([]);
    for (const { file, title } of claims) expect(readFileSync(file, 'utf8'), `${file}: ${title}`).toContain(title);
  });

  it('lists each metric of the agent', () => {
    const names = [...readFileSync('agent/observability/metrics.ts', 'utf8').matchAll(/'(chatops_[a-z_]+)'/g)].map(
      ([, name]) => name,
    );
    for (const name of names) expect(readFileSync('docs/agent.md', 'utf8')).toContain(`\`${name}\``);
  });

  it('has the JSON Schema of agent.yaml that the code generates', () => {
    expect(JSON.parse(readFileSync('agent/agent.schema.json', 'utf8'))).toEqual(
      JSON.parse(JSON.stringify(configJsonSchema())),
    );
  });
});

describe('the command line of the built agent', () => {
  beforeAll(() => requireCurrentBundles('.'));

  const chatops = (...args: string[]) =>
    spawnSync(process.execPath, ['dist/agent/index.js', ...args], { encoding: 'utf8', env: { PATH: '/nonexistent' } });

  it('passes the policy cases of the documentation', () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-docs-'));
    try {
      const [agent] = fencesOf('agent').filter(({ page }) => page === 'docs/policy.md');
      writeFileSync(join(dir, 'agent.yaml'), agent?.text ?? '', { mode: 0o600 });
      for (const [index, { text }] of fencesOf('cases').entries())
        writeFileSync(join(dir, `cases-${index}.yaml`), text);
      const done = chatops('policy', 'test', join(dir, 'cases-0.yaml'), '--config', join(dir, 'agent.yaml'));
      expect({ status: done.status, lineCount: done.stdout.split('\n').length }, done.stdout + done.stderr).toEqual({
        status: 0,
        lineCount: 3,
      });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('validate exits with 0 for valid files, 1 for an invalid file and 2 without a file', () => {
    const good = chatops('validate', ...globSync('intents/examples/*.yaml'));
    expect({ status: good.status, stdout: good.stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining('✓ intents/examples/rollout_stack_media.yaml (doc 1/1): rollout on stack-media'),
    });
    const bad = chatops('validate', 'package.json');
    expect({ status: bad.status, stdout: bad.stdout }).toEqual({
      status: 1,
      stdout: expect.stringContaining('✗ package.json:'),
    });
    expect(chatops('validate').status).toBe(2);
  });

  it('shows a dry run without an agent, and fails a run without an agent', () => {
    const all = chatops('run', 'intents/examples/rollout_all_stacks.yaml', '--dry-run');
    // The third document rolls out a folder that does not exist in this repository.
    expect({ status: all.status, stderr: all.stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining('source-dir-missing'),
    });
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
    expect({ status: copy.status, stdout: copy.stdout }, copy.stderr).toEqual({
      status: 0,
      stdout: expect.stringContaining('rsync --archive'),
    });
    const alone = chatops('run', 'intents/examples/rollout_stack_media.yaml', '--socket', '/nonexistent.sock');
    expect({ status: alone.status, stderr: alone.stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining('agent-unreachable'),
    });
    const database = chatops('run', 'intents/examples/backup_plex_database.yaml', '--dry-run');
    expect({ status: database.status, stdout: database.stdout }, database.stderr).toEqual({
      status: 0,
      stdout: expect.stringContaining('Plex SQLite'),
    });
  });

  it('generates a key that can sign, and never overwrites a key', () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-keys-'));
    const file = join(dir, 'key');
    const made = chatops('keygen', '--out', file);
    expect(made.stdout).toContain(readSecretKey(readFileSync(file, 'utf8')).public.text);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(chatops('keygen', '--out', file).status).toBe(1);
    rmSync(dir, { recursive: true });
  });

  it('shows its usage, and exits with 2 for a wrong command', () => {
    expect(chatops('--help').stdout).toContain('chatops validate');
    expect({
      noCommand: chatops().status,
      unknownCommand: chatops('frobnicate').status,
      optionWithoutValue: chatops('agent', '--port').status,
    }).toEqual({ noCommand: 2, unknownCommand: 2, optionWithoutValue: 2 });
    expect(chatops('config', 'check', 'package.json').stderr).toContain('package.json:');
  });
});

describe('make', () => {
  it('lists each target in "make help"', () => {
    const help = execFileSync('make', ['help'], { encoding: 'utf8' });
    for (const target of ['demo', 'test', 'check', 'build', 'bench', 'faults', 'setup'])
      expect(help).toMatch(new RegExp(`make ${target} +\\S`));
  });
});
