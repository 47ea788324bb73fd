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
  dir = mkdtempSync(join(tmpdir(), 'chatops-execute-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const stepRunner = () =>
  createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin', ONLY: 'this' },
    keeper: [NODE, join(import.meta.dirname, '../cli.ts'), 'keeper'],
    runDir: dir,
    grace: 300,
    outputLimit: 20_000_000,
  });

async function execute(
  steps: Step[],
  rest: Partial<Plan> = {},
  signal = new AbortController().signal,
): Promise<{ events: ProgressEvent[]; result: PlanResult }> {
  const runner = stepRunner();
  const work = executePlan(planOf(steps, rest), { document: 1, stepRunner: runner, signal });
  const events: ProgressEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) events.push(next.value);
  runner.end();
  return { events, result: next.value };
}
const outputOf = (events: ProgressEvent[]) =>
  events.map(event => (event.kind !== 'output' ? '' : 'text' in event ? event.text : event.bytes.toString())).join('');

describe('a process', () => {
  it('gets its argv unchanged, a clean environment and an empty input', async () => {
    const code =
      'console.log(JSON.stringify({ argv: process.argv.slice(1), env: process.env })); process.stdin.on("data", () => {}).on("end", () => console.error("no input"))';
    const { events, result } = await execute([
      program(code, { argv: [NODE, '--eval', code, '--', '$(id)', 'a b', '; true'], env: { MORE: '1' } }),
    ]);
    expect(result.outcome).toBe('succeeded');
    const [line = '', afterInput] = outputOf(events).split('\n');
    const env = { PATH: '/usr/bin:/bin', ONLY: 'this', MORE: '1', CHATOPS_STEP: join(dir, '1-1-1') };
    expect(JSON.parse(line)).toEqual({ argv: ['$(id)', 'a b', '; true'], env });
    expect(afterInput).toBe('no input');
  });

  it('becomes a result with code, last output and exit code when it fails, and later steps are skipped', async () => {
    const { result } = await execute([
      program('console.error("no such image"); process.exit(3)'),
      program('', { name: 'later' }),
    ]);
    expect(result).toMatchObject({
      outcome: 'failed',
      code: 'program-failed',
      failedStep: 'program',
      remedy: 'Look at it.',
      changed: false,
    });
    expect(result.message).toContain('exit code 3: no such image');
    expect(result.steps.map(({ name, outcome }) => ({ name, outcome }))).toEqual([
      { name: 'program', outcome: 'failed' },
      { name: 'later', outcome: 'skipped' },
    ]);
  });

  it('fails with program-missing if the program does not exist', async () => {
    const { result } = await execute([program('', { argv: ['/nonexistent/docker', 'compose'] })]);
    expect(result).toMatchObject({ outcome: 'failed', code: 'program-missing' });
  });

  it('is stopped at its deadline even if it ignores TERM, and the message names its pid', async () => {
    const { result } = await execute([
      program('process.on("SIGTERM", () => {}); console.log("still here"); setInterval(() => {}, 1e6)', {
        timeout: 3_000,
      }),
    ]);
    expect(result).toMatchObject({ outcome: 'failed', code: 'step-timeout' });
    expect(result.message).toMatch(/pid \d+.*still here/s);
  });

  it('is stopped after printing nothing for stallTimeout, but not while it prints', async () => {
    const { result } = await execute([
      program('let n = 0; const t = setInterval(() => { console.log(n); if (++n === 60) clearInterval(t); }, 100)', {
        name: 'slow',
        stallTimeout: 5_000,
      }),
      program('setInterval(() => {}, 1e6)', { stallTimeout: 300 }),
    ]);
    expect(result).toMatchObject({ code: 'step-stalled', failedStep: 'program' });
  });

  it('ends the step although a grandchild keeps the output open', async () => {
    const leak =
      'require("child_process").spawn(process.execPath, ["-e", "setTimeout(() => {}, 10_000)"], { stdio: "inherit", detached: true }).unref(); console.log("done")';
    const began = Date.now();
    expect((await execute([program(leak)])).result.outcome).toBe('succeeded');
    expect(Date.now() - began).toBeLessThan(9_000);
  });

  it('is stopped when its output exceeds the limit', async () => {
    const { events, result } = await execute([program('for (;;) console.log("x".repeat(1000))')]);
    expect(result).toMatchObject({ outcome: 'failed', code: 'output-too-large' });
    expect(result.remedy).toContain('limits.output');
    expect(outputOf(events).length).toBeLessThan(200_000_000);
  });

  it('is stopped by its control group when it left the process group and dropped CHATOPS_STEP', async () => {
    const cancel = new AbortController();
    vi.stubEnv('CHATOPS_CGROUP', 'delegated');
    try {
      const code = `const { spawn } = require('node:child_process'); spawn('setsid', ['env', '-i', '/bin/sleep', '98.7'], {stdio: 'ignore', detached: true}); setInterval(() => {}, 1000)`;
      const executing = execute([program(code)], {}, cancel.signal);
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
      expect((await executing).result.outcome).toBe('cancelled');
      expect(strays()).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('is stopped with its children when the run is cancelled', async () => {
    const abort = new AbortController();
    const code = `const child = require("child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]); require("fs").writeFileSync("${dir}/pid", String(child.pid)); setInterval(() => {}, 1e6)`;
    const executing = execute([program(code), program('', { name: 'later' })], {}, abort.signal);
    while (!existsSync(join(dir, 'pid')) || readFileSync(join(dir, 'pid'), 'utf8') === '')
      await new Promise(next => setTimeout(next, 20));
    abort.abort();
    expect((await executing).result).toMatchObject({ outcome: 'cancelled', failedStep: 'program' });
    const pid = Number(readFileSync(join(dir, 'pid'), 'utf8'));
    const isGone = () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z');
    for (let tries = 0; tries < 50 && !isGone(); tries++) await new Promise(next => setTimeout(next, 20));
    expect(isGone()).toBe(true);
  });

  it('succeeds with the exit codes in okCodes, and writes its output to stdoutTo', async () => {
    const to = join(dir, 'out', 'dump');
    const { events, result } = await execute([
      program('console.log("data"); console.error("log"); process.exit(24)', { okCodes: [0, 24], stdoutTo: to }),
    ]);
    expect(result.outcome).toBe('succeeded');
    expect({ file: readFileSync(to, 'utf8'), log: outputOf(events) }).toEqual({ file: 'data\n', log: 'log\n' });
  });

  it('streams 5 MB of output in order, in chunks that name their place in the log file', async () => {
    const { events } = await execute([program('for (let n = 0; n < 400000; n++) console.log("line " + n + " é")')]);
    const text = outputOf(events);
    expect(text.length).toBeGreaterThan(5_000_000);
    expect(text.split('\n').every((line, n) => line === '' || line === `line ${n} é`)).toBe(true);
    for (const event of events) {
      if (event.kind !== 'output' || !('source' in event)) continue;
      expect(event.source.length).toBeLessThanOrEqual(CHUNK_BYTES);
    }
    expect(statSync(join(dir, '1-1.log')).mode & 0o777).toBe(0o600);
  });
});

describe('an undo', () => {
  const fails = program('process.exit(1)', { name: 'fails' });
  it('runs the undo steps of started steps in their order, and cleanup always', async () => {
    const { result } = await execute([program('', { name: 'a' }), fails, program('', { name: 'never' })], {
      undo: [
        program('', { name: 'undo never', ifBegan: 'never' }),
        program('', { name: 'unless', unlessBegan: 'a' }),
        program('', { name: 'undo a', ifBegan: 'a', changes: true }),
      ],
      cleanup: [program('', { name: 'tidy' })],
    });
    expect(result.outcome).toBe('rolled-back');
    expect(result.steps.map(({ name }) => name)).toEqual(['a', 'fails', 'never', 'undo a', 'tidy']);
  });

  it('that fails ends with undo-failed and the commands to run by hand', async () => {
    const { result } = await execute([program('', { name: 'a', changes: true }), fails], {
      undo: [program('process.exit(9)', { name: 'put back' })],
    });
    expect(result).toMatchObject({ outcome: 'failed', code: 'undo-failed', changed: true });
    expect(result.remedy).toContain('Run by hand:');
  });
});

describe('a write step', () => {
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
  const contentAndMode = (path: string) => ({
    content: readFileSync(path, 'utf8'),
    mode: statSync(path).mode & 0o777,
  });
  const restore: Step = { do: 'restore', name: 'put back', of: 'write files', ifBegan: 'write files' };
  beforeEach(() => mkdirSync(join(dir, 'stack')));

  it('creates folders, sets the mode, and reports only files that differ', async () => {
    writeFileSync(at('same'), 'same', { mode: 0o644 });
    const { result } = await execute([write({ 'deep/er/file': 'x', same: 'same' })]);
    expect(result.files).toEqual({ written: [at('deep/er/file')], removed: [] });
    expect(statSync(at('deep/er/file')).mode & 0o777).toBe(0o644);
    expect(result.changed).toBe(true);
  });

  it('copies a shipped file by its checksum', async () => {
    mkdirSync(join(dir, 'shipped'));
    writeFileSync(shippedPath(dir, 'abc'), 'from afar');
    await execute([
      {
        do: 'write',
        name: 'w',
        changes: [{ path: at('f'), root: join(dir, 'stack'), mode: 0o755, content: { shipped: 'abc' } }],
      },
    ]);
    expect(readFileSync(at('f'), 'utf8')).toBe('from afar');
    expect(statSync(at('f')).mode & 0o777).toBe(0o755);
  });

  it('is restored to the exact content, mode and absence of each file', async () => {
    writeFileSync(at('changed'), 'old', { mode: 0o640 });
    writeFileSync(at('removed'), 'precious', { mode: 0o600 });
    writeFileSync(at('untouched'), 'mine');
    const { result } = await execute(
      [write({ changed: 'new', removed: null, added: 'x' }), program('process.exit(1)')],
      {
        undo: [restore],
      },
    );
    expect(result).toMatchObject({ outcome: 'failed', code: 'program-failed', changed: false });
    expect(readdirSync(join(dir, 'stack')).sort()).toEqual(['changed', 'removed', 'untouched']);
    expect(contentAndMode(at('changed'))).toEqual({ content: 'old', mode: 0o640 });
    expect(contentAndMode(at('removed'))).toEqual({ content: 'precious', mode: 0o600 });
  });

  it.each([
    { target: 'through a linked folder', prepare: () => symlinkSync('/tmp', at('link')), path: 'link/x' },
    { target: 'onto a link', prepare: () => symlinkSync('/etc/hostname', at('file')), path: 'file' },
    { target: 'outside of the root', prepare: () => {}, path: '../x' },
  ])('writes nothing $target', async ({ prepare, path }) => {
    prepare();
    const before = readFileSync('/etc/hostname', 'utf8');
    const { result } = await execute([write({ [path]: 'evil' })]);
    expect(result).toMatchObject({ outcome: 'failed', code: 'path-outside' });
    expect(readFileSync('/etc/hostname', 'utf8')).toBe(before);
    expect(existsSync('/tmp/x')).toBe(false);
  });

  it('does not replace a folder', async () => {
    mkdirSync(at('folder'));
    expect((await execute([write({ folder: 'x' })])).result.code).toBe('not-a-file');
  });

  it('leaves no partial file on a full disk, and everything is restored', async () => {
    const disk = join(dir, 'stack');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
    try {
      writeFileSync(at('a'), 'old a');
      const { result } = await execute([write({ a: 'new a', big: 'x'.repeat(400_000) })], { undo: [restore] });
      expect(result).toMatchObject({ outcome: 'failed', code: 'disk-full', changed: false });
      expect(readFileSync(at('a'), 'utf8')).toBe('old a');
      expect(readdirSync(disk)).toEqual(['a']);
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});
