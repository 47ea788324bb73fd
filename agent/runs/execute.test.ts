import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { planOf, program } from '../../test/stand/steps.ts';
import { DockerEngine } from '../outbound/docker.ts';
import type { Plan, Step, WriteStep } from '../plan/plan.ts';
import type { PlanResult, ProgressEvent } from '../plan/progress.ts';
import { createStepRunner } from '../steps/index.ts';
import { shippedPath } from '../steps/run-folder.ts';
import { CHUNK_BYTES } from '../system/log-tail.ts';
import { executePlan } from './execute.ts';

const NODE = process.execPath;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-room-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const hands = () =>
  createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin', ONLY: 'this' },
    keeper: [NODE, join(import.meta.dirname, '../cli.ts'), 'keeper'],
    runDir: dir,
    grace: 300,
    outputLimit: 20_000_000,
  });

async function carry(
  steps: Step[],
  rest: Partial<Plan> = {},
  signal = new AbortController().signal,
): Promise<{ told: ProgressEvent[]; ending: PlanResult }> {
  const own = hands();
  const work = executePlan(planOf(steps, rest), { document: 1, hands: own, signal });
  const told: ProgressEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) told.push(next.value);
  own.end();
  return { told, ending: next.value };
}
const outputOf = (told: ProgressEvent[]) =>
  told.map(one => (one.kind !== 'output' ? '' : 'text' in one ? one.text : one.bytes.toString())).join('');

describe('a process', () => {
  it('gets its argv as it is, a clean environment and no input', async () => {
    const code =
      'console.log(JSON.stringify([process.argv.slice(1), process.env])); process.stdin.on("data", () => {}).on("end", () => console.error("no input"))';
    const { told, ending } = await carry([
      program(code, { argv: [NODE, '--eval', code, '--', '$(id)', 'a b', '; true'], env: { MORE: '1' } }),
    ]);
    expect(ending.outcome).toBe('succeeded');
    const [line = '', said] = outputOf(told).split('\n');
    const env = { PATH: '/usr/bin:/bin', ONLY: 'this', MORE: '1', CHATOPS_STEP: join(dir, '1-1-1') };
    expect(JSON.parse(line)).toEqual([['$(id)', 'a b', '; true'], env]);
    expect(said).toBe('no input');
  });

  it('that fails is data: code, last words, exit code; what comes after it is skipped', async () => {
    const { ending } = await carry([
      program('console.error("no such image"); process.exit(3)'),
      program('', { name: 'later' }),
    ]);
    expect(ending).toMatchObject({
      outcome: 'failed',
      code: 'program-failed',
      failedStep: 'program',
      remedy: 'Look at it.',
      changed: false,
    });
    expect(ending.message).toContain('exit code 3: no such image');
    expect(ending.steps.map(({ name, outcome }) => [name, outcome])).toEqual([
      ['program', 'failed'],
      ['later', 'skipped'],
    ]);
  });

  it('that is not there, says so', async () => {
    const { ending } = await carry([program('', { argv: ['/nonexistent/docker', 'compose'] })]);
    expect(ending).toMatchObject({ outcome: 'failed', code: 'program-missing' });
  });

  it('is stopped at its deadline, also where it ignores TERM, and is named', async () => {
    const { ending } = await carry([
      program('process.on("SIGTERM", () => {}); console.log("still here"); setInterval(() => {}, 1e6)', {
        timeout: 3_000,
      }),
    ]);
    expect(ending).toMatchObject({ outcome: 'failed', code: 'step-timeout' });
    expect(ending.message).toMatch(/pid \d+.*still here/s);
  });

  it('is stopped when it prints nothing for too long, not while it prints', async () => {
    const { ending } = await carry([
      program('let n = 0; const t = setInterval(() => { console.log(n); if (++n === 60) clearInterval(t); }, 100)', {
        name: 'slow',
        stallTimeout: 5_000,
      }),
      program('setInterval(() => {}, 1e6)', { stallTimeout: 300 }),
    ]);
    expect(ending).toMatchObject({ code: 'step-stalled', failedStep: 'program' });
  });

  it('whose grandchild keeps the output open, hangs nothing', async () => {
    const leak =
      'require("child_process").spawn(process.execPath, ["-e", "setTimeout(() => {}, 10_000)"], { stdio: "inherit", detached: true }).unref(); console.log("done")';
    const began = Date.now();
    expect((await carry([program(leak)])).ending.outcome).toBe('succeeded');
    expect(Date.now() - began).toBeLessThan(9_000);
  });

  it('that prints without end is stopped', async () => {
    const { told, ending } = await carry([program('for (;;) console.log("x".repeat(1000))')]);
    expect(ending).toMatchObject({ outcome: 'failed', code: 'output-too-large' });
    expect(ending.remedy).toContain('limits.output');
    expect(outputOf(told).length).toBeLessThan(200_000_000);
  });

  it('that leaves its group and forgets its mark ends with its control group', async () => {
    const cancel = new AbortController();
    vi.stubEnv('CHATOPS_CGROUP', 'delegated');
    try {
      const code = `const { spawn } = require('node:child_process'); spawn('setsid', ['env', '-i', '/bin/sleep', '98.7'], {stdio: 'ignore', detached: true}); setInterval(() => {}, 1000)`;
      const carrying = carry([program(code)], {}, cancel.signal);
      const strays = () =>
        readdirSync('/proc').filter(pid => {
          try {
            return readFileSync(`/proc/${pid}/cmdline`, 'latin1') === '/bin/sleep\0' + '98.7\0';
          } catch {
            return false;
          }
        });
      await expect.poll(strays).toHaveLength(1);
      cancel.abort();
      expect((await carrying).ending.outcome).toBe('cancelled');
      expect(strays()).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('is stopped as a group when the run is cancelled', async () => {
    const abort = new AbortController();
    const code = `const child = require("child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]); require("fs").writeFileSync("${dir}/pid", String(child.pid)); setInterval(() => {}, 1e6)`;
    const carrying = carry([program(code), program('', { name: 'later' })], {}, abort.signal);
    while (!existsSync(join(dir, 'pid')) || readFileSync(join(dir, 'pid'), 'utf8') === '')
      await new Promise(next => setTimeout(next, 20));
    abort.abort();
    expect((await carrying).ending).toMatchObject({ outcome: 'cancelled', failedStep: 'program' });
    const pid = Number(readFileSync(join(dir, 'pid'), 'utf8'));
    const isGone = () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z');
    for (let tries = 0; tries < 50 && !isGone(); tries++) await new Promise(next => setTimeout(next, 20));
    expect(isGone()).toBe(true);
  });

  it('may end with other codes that count as done, and send its output to a file', async () => {
    const to = join(dir, 'out', 'dump');
    const { told, ending } = await carry([
      program('console.log("data"); console.error("log"); process.exit(24)', { okCodes: [0, 24], stdoutTo: to }),
    ]);
    expect(ending.outcome).toBe('succeeded');
    expect([readFileSync(to, 'utf8'), outputOf(told)]).toEqual(['data\n', 'log\n']);
  });

  it('prints much, all of it in order, in pieces that say where they are stored', async () => {
    const { told } = await carry([program('for (let n = 0; n < 400000; n++) console.log("line " + n + " é")')]);
    const text = outputOf(told);
    expect(text.length).toBeGreaterThan(5_000_000);
    expect(text.split('\n').every((line, n) => line === '' || line === `line ${n} é`)).toBe(true);
    for (const one of told) {
      if (one.kind !== 'output' || !('source' in one)) continue;
      expect(one.source.length).toBeLessThanOrEqual(CHUNK_BYTES);
    }
    expect(statSync(join(dir, '1-1.log')).mode & 0o777).toBe(0o600);
  });
});

describe('undo', () => {
  const fails = program('process.exit(1)', { name: 'fails' });
  it('runs in its order for what had begun, and cleanup always', async () => {
    const { ending } = await carry([program('', { name: 'a' }), fails, program('', { name: 'never' })], {
      undo: [
        program('', { name: 'undo never', ifBegan: 'never' }),
        program('', { name: 'unless', unlessBegan: 'a' }),
        program('', { name: 'undo a', ifBegan: 'a', changes: true }),
      ],
      cleanup: [program('', { name: 'tidy' })],
    });
    expect(ending.outcome).toBe('rolled-back');
    expect(ending.steps.map(({ name }) => name)).toEqual(['a', 'fails', 'never', 'undo a', 'tidy']);
  });

  it('that fails is told loudly, with what to type', async () => {
    const { ending } = await carry([program('', { name: 'a', changes: true }), fails], {
      undo: [program('process.exit(9)', { name: 'put back' })],
    });
    expect(ending).toMatchObject({ outcome: 'failed', code: 'undo-failed', changed: true });
    expect(ending.remedy).toContain('By hand:');
  });
});

describe('files', () => {
  const write = (files: Record<string, string | null>, root = join(dir, 'stack')): WriteStep => ({
    do: 'write',
    name: 'write files',
    changes: Object.entries(files).map(([path, text]) =>
      text === null
        ? { path: join(root, path), root, remove: true }
        : { path: join(root, path), root, mode: 0o644, content: { text } },
    ),
  });
  const at = (path: string) => join(dir, 'stack', path);
  const restore: Step = { do: 'restore', name: 'put back', of: 'write files', ifBegan: 'write files' };
  beforeEach(() => mkdirSync(join(dir, 'stack')));

  it('are written with their folders and mode, and only what differs is told', async () => {
    writeFileSync(at('same'), 'same', { mode: 0o644 });
    const { ending } = await carry([write({ 'deep/er/file': 'x', same: 'same' })]);
    expect(ending.files).toEqual({ written: [at('deep/er/file')], removed: [] });
    expect(statSync(at('deep/er/file')).mode & 0o777).toBe(0o644);
    expect(ending.changed).toBe(true);
  });

  it('come from the command by their checksum', async () => {
    mkdirSync(join(dir, 'shipped'));
    writeFileSync(shippedPath(dir, 'abc'), 'from afar');
    await carry([
      {
        do: 'write',
        name: 'w',
        changes: [{ path: at('f'), root: join(dir, 'stack'), mode: 0o755, content: { shipped: 'abc' } }],
      },
    ]);
    expect(readFileSync(at('f'), 'utf8')).toBe('from afar');
    expect(statSync(at('f')).mode & 0o777).toBe(0o755);
  });

  it('go back to exactly what was there: content, mode, and absence', async () => {
    writeFileSync(at('changed'), 'old', { mode: 0o640 });
    writeFileSync(at('removed'), 'precious', { mode: 0o600 });
    writeFileSync(at('untouched'), 'mine');
    const { ending } = await carry([write({ changed: 'new', removed: null, added: 'x' }), program('process.exit(1)')], {
      undo: [restore],
    });
    expect(ending).toMatchObject({ outcome: 'failed', code: 'program-failed', changed: false });
    expect(readdirSync(join(dir, 'stack')).sort()).toEqual(['changed', 'removed', 'untouched']);
    expect([readFileSync(at('changed'), 'utf8'), statSync(at('changed')).mode & 0o777]).toEqual(['old', 0o640]);
    expect([readFileSync(at('removed'), 'utf8'), statSync(at('removed')).mode & 0o777]).toEqual(['precious', 0o600]);
  });

  it.each<[string, () => void, string]>([
    ['through a folder that is a link', () => symlinkSync('/tmp', at('link')), 'link/x'],
    ['onto a link', () => symlinkSync('/etc/hostname', at('file')), 'file'],
    ['outside of the root', () => {}, '../x'],
  ])('are not written %s', async (_, prepare, path) => {
    prepare();
    const before = readFileSync('/etc/hostname', 'utf8');
    const { ending } = await carry([write({ [path]: 'evil' })]);
    expect(ending).toMatchObject({ outcome: 'failed', code: 'path-outside' });
    expect(readFileSync('/etc/hostname', 'utf8')).toBe(before);
    expect(existsSync('/tmp/x')).toBe(false);
  });

  it('are not written over a folder', async () => {
    mkdirSync(at('folder'));
    expect((await carry([write({ folder: 'x' })])).ending.code).toBe('not-a-file');
  });

  it('on a full disk: nothing half done, everything back', async () => {
    const disk = join(dir, 'stack');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
    try {
      writeFileSync(at('a'), 'old a');
      const { ending } = await carry([write({ a: 'new a', big: 'x'.repeat(400_000) })], { undo: [restore] });
      expect(ending).toMatchObject({ outcome: 'failed', code: 'disk-full', changed: false });
      expect(readFileSync(at('a'), 'utf8')).toBe('old a');
      expect(readdirSync(disk)).toEqual(['a']);
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});
