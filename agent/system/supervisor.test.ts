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
import { identify, isAlive } from './process.ts';

const NODE = process.execPath;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-outlive-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const hands = () =>
  createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin' },
    keeper: KEEPER,
    runDir: dir,
    grace: 300,
  });

async function carry(
  what: Plan,
  { signal = new AbortController().signal, past }: { signal?: AbortSignal; past?: Map<number, StepProgress> } = {},
): Promise<{ told: ProgressEvent[]; ending: PlanResult; text: string }> {
  const own = hands();
  const work = executePlan(what, { document: 1, stepRunner: own, signal, earlier: past });
  const told: ProgressEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) told.push(next.value);
  own.end();
  const text = told.map(one => (one.kind !== 'output' ? '' : 'text' in one ? one.text : String(one.bytes))).join('');
  return { told, ending: next.value, text };
}

/** An agent that carries out a step and is killed when its output says a text; returns how much of it had been told. */
async function killedAt(step: StartStep, text: string): Promise<number> {
  const agent = `
    import { executePlan } from '${resolve('agent/runs/execute.ts')}';
    import { createStepRunner } from '${resolve('agent/steps/index.ts')}';
    const hands = createStepRunner({ engine: {}, environment: { PATH: '/usr/bin:/bin' }, keeper: ${JSON.stringify(KEEPER)}, runDir: '${dir}', grace: 300 });
    const plan = ${JSON.stringify(planOf([step]))};
    for await (const told of executePlan(plan, { document: 1, stepRunner: hands, signal: new AbortController().signal }))
      if (told.kind === 'output') process.stdout.write(JSON.stringify([told.source.offset + told.source.length, String(told.bytes)]) + '\\n');`;
  const child = spawn(NODE, ['--input-type=module-typescript', '--eval', agent], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', chunk => {
    said += String(chunk);
    if (said.includes(text)) child.kill('SIGKILL');
  });
  await once(child, 'close');
  const lines = said
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as [number, string]);
  return lines[lines.findIndex(([, output]) => output.includes(text))]?.[0] ?? 0;
}

describe('a process whose agent was killed', () => {
  const counts =
    'let n = 0; const t = setInterval(() => { console.log("line " + n); if (++n === 20) { clearInterval(t); process.exitCode = CODE; } }, 100)';

  it('goes on, is followed by the next agent from the next byte, and its exit code counts', async () => {
    const step = program(counts.replace('CODE', '7'));
    const offset = await killedAt(step, 'line 3');
    const { ending, text, told } = await carry(planOf([step]), { past: new Map([[1, { offset }]]) });
    expect(ending).toMatchObject({ outcome: 'failed', code: 'program-failed' });
    expect(ending.message).toContain('exit code 7');
    expect(text).toBe(readFileSync(join(dir, '1-1.log'), 'utf8').slice(offset));
    expect(text.trim().split('\n').at(-1)).toBe('line 19');
    expect(told.some(({ kind }) => kind === 'step-started')).toBe(false);
    for (const name of readdirSync(dir).filter(one => /^1-1/.test(one)))
      expect(statSync(join(dir, name)).mode & 0o777, name).toBe(0o600);
  });

  it('and that ended meanwhile, is not started again', async () => {
    const step = program(counts.replace('CODE', '0'));
    const offset = await killedAt(step, 'line 3');
    while (!existsSync(join(dir, '1-1-1.exit'))) await sleep(50);
    const { ending, text } = await carry(planOf([step]), { past: new Map([[1, { offset }]]) });
    expect([ending.outcome, text.includes('carried out again')]).toEqual(['succeeded', false]);
    expect(readFileSync(join(dir, '1-1.log'), 'utf8').match(/line 0\n/g)).toHaveLength(1);
  });

  it('can be cancelled by the next one', async () => {
    const step = program('console.log("here"); setInterval(() => {}, 1e6)');
    const offset = await killedAt(step, 'here');
    const { pid } = JSON.parse(readFileSync(join(dir, '1-1-1.pid'), 'utf8'));
    const own = identify(pid) ?? { pid: 0, started: '' };
    expect(isAlive(own)).toBe(true);
    const { ending } = await carry(planOf([step]), { past: new Map([[1, { offset }]]), signal: AbortSignal.abort() });
    expect([ending.outcome, isAlive(own)]).toEqual(['cancelled', false]);
  });

  it('whose keeper was killed too, so that nobody saw its end: is done again only where that does no harm', async () => {
    const step = program('console.log("pid " + process.pid); setTimeout(() => {}, 1500)');
    const offset = await killedAt(step, 'pid ');
    const order = JSON.parse(readFileSync(join(dir, '1-1-1.order'), 'utf8'));
    process.kill(order.keeper.pid, 'SIGKILL');
    const past = new Map([[1, { offset }]]);
    const first = await carry(planOf([step]), { past });
    expect(first.ending).toMatchObject({ outcome: 'failed', code: 'step-lost' });
    expect(existsSync(join(dir, '1-1-2.order'))).toBe(false);
    const twice = await carry(planOf([{ ...step, repeatable: true }]), { past });
    expect([twice.ending.outcome, existsSync(join(dir, '1-1-2.order'))]).toEqual(['succeeded', true]);
    expect(twice.text).toContain('it is carried out again');
  });

  it('is never taken for another one that got its pid', () => {
    const self = identify(process.pid);
    expect(self && isAlive(self)).toBe(true);
    expect(isAlive({ pid: process.pid, started: '1' })).toBe(false);
  });

  it('takes earlier steps as they were, and goes on with the plan', async () => {
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
    const { ending, told } = await carry(planOf(steps, { undo }), { past });
    expect(readFileSync(ran, 'utf8')).toBe('bcu');
    expect(ending.steps.map(({ name, outcome, ms }) => [name, outcome, name === 'a' ? ms : 0])).toEqual([
      ['a', 'succeeded', 5],
      ['b', 'succeeded', 0],
      ['c', 'failed', 0],
      ['undo a', 'succeeded', 0],
    ]);
    expect(ending.outcome).toBe('rolled-back');
    expect(told.flatMap(one => (one.kind === 'step-started' ? [one.step] : []))).toEqual(['b', 'c', 'undo a']);
  });
});

describe('a failure that passes', () => {
  const retry = [{ on: ['try later'], times: 5, pause: 10 }];
  it('is tried again', async () => {
    const count = join(dir, 'count');
    const code = `const fs = require('fs'); fs.appendFileSync('${count}', 'x'); if (fs.readFileSync('${count}').length < 3) { console.log('busy, try later'); process.exit(1); }`;
    expect((await carry(planOf([program(code, { retry })]))).ending.outcome).toBe('succeeded');
    expect(readFileSync(count, 'utf8')).toBe('xxx');
  });

  it('is tried at most so often', async () => {
    const never = program('console.log("try later"); process.exit(1)', {
      retry: [{ on: ['try later'], times: 1, pause: 1 }],
    });
    const { ending, text } = await carry(planOf([never]));
    expect([ending.outcome, text.match(/try later/g)?.length]).toEqual(['failed', 2]);
  });

  it('is told from one that does not', async () => {
    const { ending, text } = await carry(planOf([program('console.log("no such image"); process.exit(1)', { retry })]));
    expect([ending.outcome, text]).toEqual(['failed', 'no such image\n']);
  });
});

describe('a stall', () => {
  it('is not one while the process gets on, though it prints nothing', async () => {
    const busy =
      'const end = Date.now() + 4_000; while (Date.now() < end) require("fs").readFileSync("/proc/self/stat")';
    expect((await carry(planOf([program(busy, { stallTimeout: 2_000 })]))).ending.outcome).toBe('succeeded');
  });
});

describe('a probe', () => {
  let server: Server;
  let asked: string[];
  let answers: { status: number; body: string; location?: string }[];
  beforeEach(async () => {
    asked = [];
    answers = [];
    server = createServer((request, response) => {
      asked.push(`${request.method} ${request.headers.host}${request.url}`);
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
    const { ending } = await carry(planOf([step]));
    return ending.code ?? ending.outcome;
  };

  it('asks as often as it takes, and judges status and body', async () => {
    answers = [
      { status: 503, body: '' },
      { status: 200, body: 'starting' },
      { status: 200, body: 'all ok' },
    ];
    expect(await outcomeOf(http({ retries: 5, body: 'ok' }))).toBe('succeeded');
    expect(asked).toEqual(Array(3).fill(`GET 127.0.0.1:${port()}/health?x=1`));
    answers = [{ status: 204, body: '' }];
    expect(await outcomeOf(http())).toBe('verify-failed');
    expect(await outcomeOf(http({ status: [200, 204] }))).toBe('succeeded');
  });

  it('follows no redirect, and waits for nobody for ever', async () => {
    answers = [{ status: 302, body: '', location: 'http://192.0.2.1/' }];
    expect(await outcomeOf(http())).toBe('verify-failed');
    expect(asked).toHaveLength(1);
    server.removeAllListeners('request');
    expect(await outcomeOf(http({ timeout: 100 }))).toBe('verify-failed');
  });

  it.each([
    'http://[::ffff:10.0.0.1]/',
    'http://10.0.0.1/',
    'http://2130706433.example.invalid/',
    'http://169.254.169.254/',
  ])('asks nobody whom the policy does not name: %s', async url => {
    expect(['verify-address-not-allowed', 'verify-failed']).toContain(await outcomeOf(http({ url })));
    expect(asked).toEqual([]);
  });

  it('judges what a name means, not the name', async () => {
    expect(await outcomeOf(http({ url: `http://localhost:${port()}/`, allow: ['10.0.0.0/8'] }))).toBe(
      'verify-address-not-allowed',
    );
    expect(await outcomeOf(http({ url: `http://localhost:${port()}/`, allow: ['127.0.0.0/8', '::1/128'] }))).toMatch(
      /succeeded|verify-failed/,
    );
    expect(asked.length).toBeLessThanOrEqual(1);
  });

  it('by TCP needs no more than a connection', async () => {
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
  it('leaves what runs have started alone, and is one that systemd understands', async () => {
    const unit = readFileSync('agent/deploy/chatops-agent.service', 'utf8');
    expect(unit).toMatch(/^KillMode=process$/m);
    const copy = join(dir, 'chatops-agent.service');
    writeFileSync(copy, unit.replace('/usr/bin/node', NODE).replaceAll(/^(After|Wants|Documentation)=.*\n/gm, ''));
    const child = spawn('systemd-analyze', ['verify', copy], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (said += String(chunk)));
    const [code] = await once(child, 'close');
    expect([code, said.split('\n').filter(line => line.includes('chatops-agent'))], said).toEqual([0, []]);
  });
});
