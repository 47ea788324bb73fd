import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { program } from '../../test/stand/steps.ts';
import type { AwaitHealthyStep, PrepareMountsStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { Redactor } from '../system/redactor.ts';
import { runAwaitHealthy } from './await-healthy.ts';
import type { StepContext } from './runner.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-await-'));
  writeFileSync(join(dir, 'config.json'), '{}');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A container that was stopped from outside. */
const stopped = {
  ...{ Id: 'c1', Name: '/web', RestartCount: 0, Mounts: [] },
  State: { Status: 'exited', ExitCode: 143, Running: false },
};
const engine = {
  get: async (path: string) => (path.startsWith('/containers/json') ? [{ Id: 'c1', Labels: {} }] : stopped),
  now: () => Date.now(),
} as unknown as StepContext['engine'];

/** Runs the step, and returns its result and the programs that it started. */
async function run(sha256: string): Promise<{ result: StepResult; started: string[] }> {
  const started: string[] = [];
  const supervisor = {
    start: (_: string, { argv }: { argv: string[] }) => {
      started.push(argv.join(' '));
      throw new Error('started');
    },
  };
  const project = { dir };
  const prepare: PrepareMountsStep = {
    ...{ do: 'prepare-mounts', name: 'prepare', project, mounts: [], nested: false },
    config: { file: join(dir, 'config.json'), sha256 },
  };
  const step: AwaitHealthyStep = {
    ...{ do: 'await-healthy', name: 'wait', project, settle: 0, timeout: 1_000 },
    revive: { prepare: [prepare], up: program('', { name: 'up', changes: true }), ran: [] },
  };
  const { signal } = new AbortController();
  const context = { base: join(dir, 'wait'), redactor: new Redactor(), engine, supervisor, signal, environment: {} };
  const work = runAwaitHealthy(step, context as unknown as StepContext);
  try {
    let next = await work.next();
    while (!next.done) next = await work.next();
    return { result: next.value, started };
  } catch {
    return { result: { outcome: 'failed', code: 'started' } as StepResult, started };
  }
}

it('containers are brought up again only after the check of their mounts', async () => {
  const digest = createHash('sha256').update('{}').digest('hex');
  const allowed = await run(digest);
  expect({ code: allowed.result.code, count: allowed.started.length }).toEqual({ code: 'started', count: 1 });
  const refused = await run('f'.repeat(64));
  expect(refused).toMatchObject({ result: { outcome: 'failed', code: 'config-changed' }, started: [] });
});
