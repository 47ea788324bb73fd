import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KEEPER } from '../../test/stand/guarded.ts';
import { planOf, program } from '../../test/stand/steps.ts';
import { DockerEngine } from '../outbound/docker.ts';
import type { OpenedPath, StartStep } from '../plan/plan.ts';
import type { PlanResult } from '../plan/progress.ts';
import { executePlan } from '../runs/execute.ts';
import { Redactor } from '../system/redactor.ts';
import { createStepRunner } from './index.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-start-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function run(step: StartStep, secrets: string[] = []): Promise<PlanResult & { text: string }> {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  const runner = createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin' },
    keeper: KEEPER,
    runDir: dir,
    grace: 300,
    redactor,
  });
  const work = executePlan(planOf([step]), { document: 1, stepRunner: runner, signal: new AbortController().signal });
  let text = '';
  let next = await work.next();
  for (; !next.done; next = await work.next())
    if (next.value.kind === 'output') text += 'text' in next.value ? next.value.text : String(next.value.bytes);
  runner.end();
  return { ...next.value, text };
}
const prints = (text: string, code: number) => `console.error(${JSON.stringify(text)}); process.exitCode = ${code}`;

describe('the result of a program', () => {
  const rsync: Partial<StartStep> = {
    retry: [{ on: ['(code 24)'], times: 1, pause: 1 }],
    okAtLast: [24],
    warnings: ['file has vanished:'],
    fatal: [{ begins: 'file has vanished:', ends: ['.db"'] }],
  };

  it('is a success with a warning for a tolerated exit code, after another try has not helped', async () => {
    const result = await run(program(prints('file has vanished: "/a/x.txt"\nwarning (code 24)', 24), rsync));
    expect({ outcome: result.outcome, tries: result.text.match(/vanished/g)?.length }).toEqual({
      outcome: 'succeeded',
      tries: 2,
    });
  });

  it('is a failure for a tolerated exit code if the output has a fatal line', async () => {
    const { outcome, code } = await run(program(prints('file has vanished: "/a/x.db"\nwarning (code 24)', 24), rsync));
    expect({ outcome, code }).toEqual({ outcome: 'failed', code: 'program-failed' });
  });

  it.each([
    [prints('No space left on device', 11), 'full'],
    [prints('something else', 11), 'eleven'],
    [prints('something else', 12), 'program-failed'],
  ])('has the code of the first reason that matches exit code and output: %s', async (code, reason) => {
    const reasons = [
      { says: 'No space left', code: 'full', remedy: 'Make room.' },
      { exit: [11], code: 'eleven', remedy: 'Look at it.' },
    ];
    expect((await run(program(code, { reasons }))).code).toBe(reason);
  });
});

describe('the decisions of a step whose texts are secrets', () => {
  const SECRETS = ['tables: ', 'file has vanished:', 'try later', 'No space left'];

  it('finds what the program must say', async () => {
    const result = await run(
      program(prints('tables: 5', 0), { mustSay: ['tables: '], mustNotSay: ['tables: 0'] }),
      SECRETS,
    );
    expect({ outcome: result.outcome, text: result.text }).toEqual({ outcome: 'succeeded', text: '********5\n' });
  });

  it('finds a fatal line, and reports it redacted', async () => {
    const fatal = [{ begins: 'file has vanished:', ends: ['.db"'] }];
    const { outcome, message } = await run(program(prints('file has vanished: "/a.db"', 0), { fatal }), SECRETS);
    expect(outcome).toBe('failed');
    expect(message).toContain(`printed "${'*'.repeat(18)} "/a.db"".`);
  });

  it('finds a temporary failure and the reason of a failure', async () => {
    const step: Partial<StartStep> = {
      retry: [{ on: ['try later'], times: 1, pause: 1 }],
      reasons: [{ says: 'No space left', code: 'full', remedy: 'Make room.' }],
    };
    const { code, text } = await run(program(prints('try later: No space left', 1), step), SECRETS);
    expect({ code, tries: text.match(/\*{9}: \*{13}/g)?.length }).toEqual({ code: 'full', tries: 2 });
  });
});

describe('the process of a step', () => {
  it('gets its input from a file and its secret from another', async () => {
    writeFileSync(join(dir, 'in'), 'from the file\n');
    writeFileSync(join(dir, 'secret'), 's3cret-1\nnot this\n');
    const code =
      "process.stdin.on('data', d => console.log(String(d).trim(), process.env.PASS.length, process.env.PASS.endsWith('1')))";
    const { outcome, text } = await run(
      program(code, { stdinFrom: join(dir, 'in'), secrets: { PASS: { file: join(dir, 'secret') } } }),
    );
    expect({ outcome, text }).toEqual({ outcome: 'succeeded', text: 'from the file 8 true\n' });
  });

  it('is not started if its secret is not readable', async () => {
    const { outcome, code } = await run(program('', { secrets: { PASS: { file: join(dir, 'gone') } } }));
    expect({ outcome, code }).toEqual({ outcome: 'failed', code: 'secret-unreadable' });
  });
});

describe('a path that a step opens', () => {
  const data = () => join(dir, 'root/data');
  beforeEach(() => {
    mkdirSync(data(), { recursive: true });
    mkdirSync(join(dir, 'outside'));
    writeFileSync(join(data(), 'x'), 'inside');
    writeFileSync(join(dir, 'outside/x'), 'secret');
  });
  const opens = (path: string, changes: Partial<OpenedPath> = {}): OpenedPath[] => [
    { path: join(dir, path), root: join(dir, 'root'), as: 'folder', ...changes },
  ];
  const start = (argv: [string, ...string[]], changes: Partial<StartStep>) => run({ ...program(''), argv, ...changes });

  it('stays the folder that was opened when its path is exchanged for a link, for the process and its children', async () => {
    const move = `mv ${data()} ${dir}/moved && ln -s ${dir}/outside ${data()} && cat "$1/x" && sh -c 'cat "$0/x"' "$1"`;
    const { outcome, text } = await start(['sh', '-c', move, 'sh', data()], { opens: opens('root/data') });
    expect({ outcome, text }).toEqual({ outcome: 'succeeded', text: 'insideinside' });
  });

  it('is used for the working folder, the input and the output', async () => {
    const fields = { cwd: data(), stdinFrom: join(data(), 'x'), stdoutTo: join(dir, 'root/new/copy') };
    const list = [...opens('root/data'), ...opens('root/new', { make: 0o700 })];
    expect(await start(['sh', '-c', 'cat; cat x'], { ...fields, opens: list })).toMatchObject({ outcome: 'succeeded' });
    expect(readFileSync(join(dir, 'root/new/copy'), 'utf8')).toBe('insideinside');
  });

  it('is given without links to a program that opens it by itself', async () => {
    symlinkSync(join(dir, 'root'), join(dir, 'link'));
    const named = { path: join(dir, 'link/data/x'), root: join(dir, 'link'), as: 'name' } as const;
    const args = [named.path, `file:${named.path}?mode=ro`, `--other=${named.path}`];
    const { text } = await start(['printf', '%s\\n', ...args], { opens: [named] });
    const real = realpathSync(join(data(), 'x'));
    expect(text).toBe(`${real}\nfile:${real}?mode=ro\n--other=${named.path}\n`);
  });

  it('that is a link is refused without a start', async () => {
    symlinkSync(join(dir, 'outside'), join(dir, 'root/link'));
    const list = opens('root/link', { code: 'destination-link', make: 0o700 });
    const { outcome, code } = await start(['touch', join(dir, 'started')], { opens: list });
    expect({ outcome, code }).toEqual({ outcome: 'failed', code: 'destination-link' });
    expect(existsSync(join(dir, 'started'))).toBe(false);
  });

  it.each(['input', 'output'])('is needed for an %s: a link or a pipe there is refused at once', async direction => {
    symlinkSync(join(dir, 'outside/x'), join(data(), 'secret'));
    execFileSync('mkfifo', [join(data(), 'pipe')]);
    const codes = [];
    for (const name of ['secret', 'pipe']) {
      const path = join(data(), name);
      const fields = direction === 'input' ? { stdinFrom: path } : { stdoutTo: path };
      codes.push((await start(['cat'], { ...fields, opens: opens('root/data') })).code);
    }
    expect(codes).toEqual(['path-outside', 'not-a-file']);
    expect(readFileSync(join(dir, 'outside/x'), 'utf8')).toBe('secret');
  });
});

describe('the output of a step', () => {
  it('is bounded in its file, by size and by the free space next to it', async () => {
    const stdoutTo = join(dir, 'big');
    const endless: Partial<StartStep> = { argv: ['yes'], stdoutTo, repeatable: true };
    const bySize = await run({ ...program('', endless), stdoutLimit: { size: 100_000 } });
    expect(bySize).toMatchObject({ outcome: 'failed', code: 'output-too-large' });
    expect(statSync(stdoutTo).size).toBeLessThan(4 * 2 ** 30);
    rmSync(stdoutTo);
    const bySpace = await run({ ...program('', endless), stdoutLimit: { free: 2 ** 50 } });
    expect(bySpace).toMatchObject({ outcome: 'failed', code: 'destination-full' });
    expect(bySpace.message).toContain(stdoutTo);
  });
});
