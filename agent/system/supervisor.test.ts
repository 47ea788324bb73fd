import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KEEPER } from '../../test/stand/guarded.ts';
import { planOf, program } from '../../test/stand/steps.ts';
import { DockerEngine } from '../outbound/docker.ts';
import type { HttpStep, Plan, StartStep, TcpStep } from '../plan/plan.ts';
import type { PlanResult, ProgressEvent, StepProgress } from '../plan/progress.ts';
import { executePlan } from '../runs/execute.ts';
import { createStepRunner } from '../steps/index.ts';
import { isAlive, readIdentity } from './process.ts';
import { Redactor } from './redactor.ts';

const NODE = process.execPath;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-outlive-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const createRunner = (redactor: Redactor) =>
  createStepRunner({
    redactor,
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin' },
    keeper: KEEPER,
    runDir: dir,
    grace: 300,
  });

async function run(
  plan: Plan,
  {
    signal = new AbortController().signal,
    past,
    secrets = [],
  }: { signal?: AbortSignal; past?: Map<number, StepProgress>; secrets?: string[] } = {},
): Promise<{ events: ProgressEvent[]; result: PlanResult; text: string }> {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  const runner = createRunner(redactor);
  const work = executePlan(plan, { document: 1, stepRunner: runner, signal, earlier: past });
  const events: ProgressEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) events.push(next.value);
  runner.end();
  const text = events
    .map(event => (event.kind !== 'output' ? '' : 'text' in event ? event.text : String(event.bytes)))
    .join('');
  return { events, result: next.value, text };
}

/** Runs a step in another agent, kills that when the step prints a text, and returns how many bytes it had logged. */
async function killAgentAt(step: StartStep, text: string, secrets: string[] = []): Promise<number> {
  const agent = `
    import { executePlan } from '${resolve('agent/runs/execute.ts')}';
    import { createStepRunner } from '${resolve('agent/steps/index.ts')}';
    import { Redactor } from '${resolve('agent/system/redactor.ts')}';
    const redactor = new Redactor();
    for (const secret of ${JSON.stringify(secrets)}) redactor.add(secret);
    const hands = createStepRunner({ redactor, engine: {}, environment: { PATH: '/usr/bin:/bin' }, keeper: ${JSON.stringify(KEEPER)}, runDir: '${dir}', grace: 300 });
    const plan = ${JSON.stringify(planOf([step]))};
    for await (const event of executePlan(plan, { document: 1, stepRunner: hands, signal: new AbortController().signal }))
      if (event.kind === 'output') process.stdout.write(JSON.stringify([event.source.offset + event.source.length, String(event.bytes)]) + '\\n');`;
  const child = spawn(NODE, ['--input-type=module-typescript', '--eval', agent], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.on('data', chunk => {
    printed += String(chunk);
    if (printed.includes(text)) child.kill('SIGKILL');
  });
  await once(child, 'close');
  const lines = printed
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as [number, string]);
  return lines[lines.findIndex(([, output]) => output.includes(text))]?.[0] ?? 0;
}

describe('a process whose agent was killed', () => {
  const counts =
    'let n = 0; const t = setInterval(() => { console.log("line " + n); if (++n === 20) { clearInterval(t); process.exitCode = CODE; } }, 100)';

  it('keeps running, is followed by the next agent from the next byte, and its exit code counts', async () => {
    const step = program(counts.replace('CODE', '7'));
    const offset = await killAgentAt(step, 'line 3');
    const { result, text, events } = await run(planOf([step]), { past: new Map([[1, { offset }]]) });
    expect(result).toMatchObject({ outcome: 'failed', code: 'program-failed' });
    expect(result.message).toContain('exit code 7');
    expect(text).toBe(readFileSync(join(dir, '1-1.log'), 'utf8').slice(offset));
    expect(text.trim().split('\n').at(-1)).toBe('line 19');
    expect(events.some(({ kind }) => kind === 'step-started')).toBe(false);
    for (const name of readdirSync(dir).filter(name => /^1-1/.test(name)))
      expect(statSync(join(dir, name)).mode & 0o777, name).toBe(0o600);
  });

  it('is not started again by the next agent if it ended in between', async () => {
    const step = program(counts.replace('CODE', '0'));
    const offset = await killAgentAt(step, 'line 3');
    while (!existsSync(join(dir, '1-1-1.exit'))) await sleep(50);
    const { result, text } = await run(planOf([step]), { past: new Map([[1, { offset }]]) });
    expect(result.outcome).toBe('succeeded');
    expect(text).not.toContain('the step runs again');
    expect(readFileSync(join(dir, '1-1.log'), 'utf8').match(/line 0\n/g)).toHaveLength(1);
  });

  it.each([
    ['succeeded', 'tables: 5'],
    ['failed', 'no rows'],
    ['failed', 'tables: 0'],
  ])('%s for the next agent if it printed %j, which the killed one has redacted', async (outcome, printed) => {
    const code = `console.log(${JSON.stringify(printed)} + '\\nready'); setTimeout(() => console.log('done'), 1500)`;
    const step = program(code, { mustSay: ['tables: ', 'done'], mustNotSay: ['tables: 0\n'] });
    const secrets = ['tables: ', 'no rows'];
    const offset = await killAgentAt(step, 'ready', secrets);
    expect(readFileSync(join(dir, '1-1.log'), 'utf8')).not.toMatch(/tables|rows/);
    const { result } = await run(planOf([step]), { past: new Map([[1, { offset }]]), secrets });
    expect(result.outcome).toBe(outcome);
    expect(readdirSync(dir).filter(name => /\.checks$/.test(name))).toEqual(['1-1.checks']);
  });

  it('can be cancelled by the next agent', async () => {
    const step = program('console.log("here"); setInterval(() => {}, 1e6)');
    const offset = await killAgentAt(step, 'here');
    const { pid } = JSON.parse(readFileSync(join(dir, '1-1-1.pid'), 'utf8'));
    const identity = readIdentity(pid) ?? { pid: 0, started: '' };
    expect(isAlive(identity)).toBe(true);
    const { result } = await run(planOf([step]), { past: new Map([[1, { offset }]]), signal: AbortSignal.abort() });
    expect({ outcome: result.outcome, isAlive: isAlive(identity) }).toEqual({ outcome: 'cancelled', isAlive: false });
  });

  it('runs again after the supervisor was killed only if the step is repeatable', async () => {
    const step = program('console.log("pid " + process.pid); setTimeout(() => {}, 1500)');
    const offset = await killAgentAt(step, 'pid ');
    const order = JSON.parse(readFileSync(join(dir, '1-1-1.order'), 'utf8'));
    process.kill(order.keeper.pid, 'SIGKILL');
    const past = new Map([[1, { offset }]]);
    const first = await run(planOf([step]), { past });
    expect(first.result).toMatchObject({ outcome: 'failed', code: 'step-lost' });
    expect(existsSync(join(dir, '1-1-2.order'))).toBe(false);
    const repeated = await run(planOf([{ ...step, repeatable: true }]), { past });
    expect({ outcome: repeated.result.outcome, isOrdered: existsSync(join(dir, '1-1-2.order')) }).toEqual({
      outcome: 'succeeded',
      isOrdered: true,
    });
    expect(repeated.text).toContain('the step runs again');
  });

  it('is not mistaken for another process that got its pid', () => {
    const self = readIdentity(process.pid);
    expect(self && isAlive(self)).toBe(true);
    expect(isAlive({ pid: process.pid, started: '1' })).toBe(false);
  });

  it('leaves the results of earlier steps to the next agent, which continues the plan', async () => {
    const ran = join(dir, 'ran');
    const steps = [
      program(`require('fs').appendFileSync('${ran}', 'a')`, { name: 'a' }),
      program(`require('fs').appendFileSync('${ran}', 'b')`, { name: 'b' }),
      program(`require('fs').appendFileSync('${ran}', 'c'); process.exit(1)`, { name: 'c' }),
    ];
    const undo = [
      program(`require('fs').appendFileSync('${ran}', 'u')`, { name: 'undo a', ifBegan: 'a', changes: true }),
    ];
    const past = new Map<number, StepProgress>([[1, { ending: { outcome: 'succeeded' }, ms: 5 }]]);
    const { result, events } = await run(planOf(steps, { undo }), { past });
    expect(readFileSync(ran, 'utf8')).toBe('bcu');
    expect(result.steps.map(({ name, outcome, ms }) => [name, outcome, name === 'a' ? ms : 0])).toEqual([
      ['a', 'succeeded', 5],
      ['b', 'succeeded', 0],
      ['c', 'failed', 0],
      ['undo a', 'succeeded', 0],
    ]);
    expect(result.outcome).toBe('rolled-back');
    expect(events.flatMap(event => (event.kind === 'step-started' ? [event.step] : []))).toEqual(['b', 'c', 'undo a']);
  });
});

describe('a temporary failure', () => {
  const retry = [{ on: ['try later'], times: 5, pause: 10 }];
  it('is tried again until it succeeds', async () => {
    const count = join(dir, 'count');
    const code = `const fs = require('fs'); fs.appendFileSync('${count}', 'x'); if (fs.readFileSync('${count}').length < 3) { console.log('busy, try later'); process.exit(1); }`;
    expect((await run(planOf([program(code, { retry })]))).result.outcome).toBe('succeeded');
    expect(readFileSync(count, 'utf8')).toBe('xxx');
  });

  it('is tried again at most as often as the rule says', async () => {
    const never = program('console.log("try later"); process.exit(1)', {
      retry: [{ on: ['try later'], times: 1, pause: 1 }],
    });
    const { result, text } = await run(planOf([never]));
    expect({ outcome: result.outcome, tries: text.match(/try later/g)?.length }).toEqual({
      outcome: 'failed',
      tries: 2,
    });
  });

  it('is distinguished from a permanent one by the output', async () => {
    const { result, text } = await run(planOf([program('console.log("no such image"); process.exit(1)', { retry })]));
    expect({ outcome: result.outcome, text }).toEqual({ outcome: 'failed', text: 'no such image\n' });
  });
});

describe('the stall timeout', () => {
  it('does not end a process that prints nothing but makes progress', async () => {
    const busy =
      'const end = Date.now() + 4_000; while (Date.now() < end) require("fs").readFileSync("/proc/self/stat")';
    expect((await run(planOf([program(busy, { stallTimeout: 2_000 })]))).result.outcome).toBe('succeeded');
  });
});

describe('a probe', () => {
  let server: Server;
  let requests: string[];
  let answers: { status: number; body: string; location?: string }[];
  beforeEach(async () => {
    requests = [];
    answers = [];
    server = createServer((request, response) => {
      requests.push(`${request.method} ${request.headers.host}${request.url}`);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      response.writeHead(answer?.status ?? 200, answer?.location ? { location: answer.location } : {});
      response.end(answer?.body ?? '');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  const port = () => (server.address() as AddressInfo).port;
  const http = (changes: Partial<HttpStep> = {}): HttpStep => ({
    do: 'http',
    name: 'probe',
    url: `http://127.0.0.1:${port()}/health?x=1`,
    status: [200],
    timeout: 3_000,
    retries: 0,
    pause: 10,
    project: { dir },
    allow: ['127.0.0.0/8'],
    ...changes,
  });
  const outcomeOf = async (step: HttpStep | TcpStep) => {
    const { result } = await run(planOf([step]));
    return result.code ?? result.outcome;
  };

  it('asks until status and body are as expected', async () => {
    answers = [
      { status: 503, body: '' },
      { status: 200, body: 'starting' },
      { status: 200, body: 'all ok' },
    ];
    expect(await outcomeOf(http({ retries: 5, body: 'ok' }))).toBe('succeeded');
    expect(requests).toEqual(Array(3).fill(`GET 127.0.0.1:${port()}/health?x=1`));
    answers = [{ status: 204, body: '' }];
    expect(await outcomeOf(http())).toBe('verify-failed');
    expect(await outcomeOf(http({ status: [200, 204] }))).toBe('succeeded');
  });

  it('follows no redirect, and stops at its timeout', async () => {
    answers = [{ status: 302, body: '', location: 'http://192.0.2.1/' }];
    expect(await outcomeOf(http())).toBe('verify-failed');
    expect(requests).toHaveLength(1);
    server.removeAllListeners('request');
    expect(await outcomeOf(http({ timeout: 100 }))).toBe('verify-failed');
  });

  it.each([
    'http://[::ffff:10.0.0.1]/',
    'http://10.0.0.1/',
    'http://2130706433.example.invalid/',
    'http://169.254.169.254/',
  ])('does not connect to an address that the policy does not allow: %s', async url => {
    expect(['verify-address-not-allowed', 'verify-failed']).toContain(await outcomeOf(http({ url })));
    expect(requests).toEqual([]);
  });

  it('checks the addresses of a name, not the name', async () => {
    expect(await outcomeOf(http({ url: `http://localhost:${port()}/`, allow: ['10.0.0.0/8'] }))).toBe(
      'verify-address-not-allowed',
    );
    expect(await outcomeOf(http({ url: `http://localhost:${port()}/`, allow: ['127.0.0.0/8', '::1/128'] }))).toMatch(
      /succeeded|verify-failed/,
    );
    expect(requests.length).toBeLessThanOrEqual(1);
  });

  it('succeeds over TCP as soon as it is connected', async () => {
    const tcp: TcpStep = {
      do: 'tcp',
      name: 'tcp',
      host: '127.0.0.1',
      port: port(),
      timeout: 3_000,
      retries: 0,
      pause: 1,
      project: { dir },
      allow: ['127.0.0.1'],
    };
    expect(await outcomeOf(tcp)).toBe('succeeded');
    expect(await outcomeOf({ ...tcp, port: 1 })).toBe('verify-failed');
  });
});

describe('the systemd unit', () => {
  it('does not stop the processes of runs, and is valid for systemd', async () => {
    const unit = readFileSync('agent/deploy/chatops-agent.service', 'utf8');
    expect(unit).toMatch(/^KillMode=process$/m);
    const copy = join(dir, 'chatops-agent.service');
    writeFileSync(copy, unit.replace('/usr/bin/node', NODE).replaceAll(/^(After|Wants|Documentation)=.*\n/gm, ''));
    const child = spawn('systemd-analyze', ['verify', copy], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (output += String(chunk)));
    const [code] = await once(child, 'close');
    const complaints = output.split('\n').filter(line => line.includes('chatops-agent'));
    expect({ code, complaints }, output).toEqual({ code: 0, complaints: [] });
  });
});
