import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KEEPER } from '../../test/stand/guarded.ts';
import { planOf, program } from '../../test/stand/steps.ts';
import { DockerEngine } from '../outbound/docker.ts';
import type { StartStep } from '../plan/plan.ts';
import type { PlanResult } from '../plan/progress.ts';
import { executePlan } from '../runs/execute.ts';
import { createStepRunner } from './index.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-start-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function carry(step: StartStep): Promise<PlanResult & { text: string }> {
  const hands = createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin' },
    keeper: KEEPER,
    runDir: dir,
    grace: 300,
  });
  const work = executePlan(planOf([step]), { document: 1, stepRunner: hands, signal: new AbortController().signal });
  let text = '';
  let next = await work.next();
  for (; !next.done; next = await work.next())
    if (next.value.kind === 'output') text += 'text' in next.value ? next.value.text : String(next.value.bytes);
  hands.end();
  return { ...next.value, text };
}
const says = (text: string, code: number) => `console.error(${JSON.stringify(text)}); process.exitCode = ${code}`;

describe('what a program says and how it ends', () => {
  const rsync: Partial<StartStep> = {
    retry: [{ on: ['(code 24)'], times: 1, pause: 1 }],
    okAtLast: [24],
    warnings: ['file has vanished:'],
    fatal: [{ begins: 'file has vanished:', ends: ['.db"'] }],
  };

  it('may count at last, with a warning, where trying again has not helped', async () => {
    const done = await carry(program(says('file has vanished: "/a/x.txt"\nwarning (code 24)', 24), rsync));
    expect([done.outcome, done.text.match(/vanished/g)?.length]).toEqual(['succeeded', 2]);
  });

  it('does not count where it was a database', async () => {
    const done = await carry(program(says('file has vanished: "/a/x.db"\nwarning (code 24)', 24), rsync));
    expect([done.outcome, done.code]).toEqual(['failed', 'program-failed']);
  });

  it.each([
    [says('No space left on device', 11), 'full'],
    [says('something else', 11), 'eleven'],
    [says('something else', 12), 'program-failed'],
  ])('is told by the first reason that fits: %s', async (code, reason) => {
    const reasons = [
      { says: 'No space left', code: 'full', remedy: 'Make room.' },
      { exit: [11], code: 'eleven', remedy: 'Look at it.' },
    ];
    expect((await carry(program(code, { reasons }))).code).toBe(reason);
  });
});

describe('a process', () => {
  it('reads a file as its input, and its secret from another, which is in none of the run’s files', async () => {
    writeFileSync(join(dir, 'in'), 'from the file\n');
    writeFileSync(join(dir, 'secret'), 's3cret-1\nnot this\n');
    const code =
      "process.stdin.on('data', d => console.log(String(d).trim(), process.env.PASS.length, process.env.PASS.endsWith('1')))";
    const done = await carry(
      program(code, { stdinFrom: join(dir, 'in'), secrets: { PASS: { file: join(dir, 'secret') } } }),
    );
    expect([done.outcome, done.text]).toEqual(['succeeded', 'from the file 8 true\n']);
  });

  it('is not started without its secret', async () => {
    const done = await carry(program('', { secrets: { PASS: { file: join(dir, 'gone') } } }));
    expect([done.outcome, done.code]).toEqual(['failed', 'secret-unreadable']);
  });
});
