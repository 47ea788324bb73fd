import { setTimeout as sleep } from 'node:timers/promises';
import { Bench, OPERATIONS } from './bench.ts';
import { OwnEngine } from './engine.ts';
import { judge, newest, newestEnded, type Verdict } from './judge.ts';
import { Random } from './random.ts';
import { FAULTS, type Fault, strike } from './strike.ts';

const rounds = Number(process.env.ROUNDS || 200);
const seed = Number(process.env.SEED || 1);
/** When a fault strikes, after the start of the job: from before the connection to after most rounds' end. */
const STRIKES_WITHIN_MS = 4_000;

const total = { lost: 0, doubled: 0, down: 0, locks: 0, orphans: 0 };
const outcomes = new Map<string, number>();

console.log(`faults: ${rounds} rounds, seed ${seed}`);
const engine = new OwnEngine();
process.env.DOCKER_HOST = engine.host;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void engine.stop().finally(() => process.exit(130)));
}
try {
  await engine.start();
  await using bench = new Bench(engine);
  await bench.start();
  try {
    for (let round = 1; round <= rounds; round++) await play(bench, round);
  } catch (error) {
    console.log('The harness itself failed:', error, `\n${bench.world.host.log.slice(-4000)}`);
    total.lost++;
  }
} finally {
  await engine.stop();
}
console.log(
  `outcomes: ${[...outcomes]
    .sort()
    .map(([name, count]) => `${name}=${count}`)
    .join(' ')}`,
);
console.log(
  `rounds=${rounds} ${Object.entries(total)
    .map(([name, count]) => `${name}=${count}`)
    .join(' ')}`,
);
process.exit(Object.values(total).every(count => count === 0) ? 0 : 1);

/** One operation, one fault at a random moment, and what is left of it all. */
async function play(bench: Bench, round: number): Promise<void> {
  // A round by itself: `ROUNDS=1 SEED=<seed + round - 1>` begins with the same operation, fault and moment.
  const random = new Random(seed + round - 1);
  const operation = random.pick(OPERATIONS);
  const fault = random.pick(FAULTS);
  const at = random.below(STRIKES_WITHIN_MS);
  const began = Date.now();
  const [before] = await newest(bench);
  const job = bench.begin(operation, random.below(100));
  await sleep(at);
  const late = await cameTooLate(bench, before?.id, fault);
  if (!late) await strike(fault, bench, job.child, random);
  const finished = await job.finished;
  const wasKilled = finished.signal !== null;
  const run = await newestEnded(bench);
  const isNew = run === undefined || run.id !== before?.id;
  const verdict = await judge(bench, run, wasKilled ? undefined : finished);
  const outcome = isNew ? (run?.outcome ?? 'not ended') : 'no run';
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  const faults = complaints(verdict);
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  console.log(
    `${faults.length === 0 ? '✓' : '✗'} ${round} (seed ${seed + round - 1}): ${operation}, ${fault} after ${at} ms${late ? ' (too late)' : ''} → ${outcome} (${seconds} s)`,
  );
  for (const line of faults) console.log(`    ${line}`);
  if (faults.length > 0 && !wasKilled) console.log(finished.log.replaceAll(/^/gm, '    | '));
}

/** What an engine does to containers when no run is in flight is its own affair. */
async function cameTooLate(bench: Bench, before: string | undefined, fault: Fault): Promise<boolean> {
  if (!fault.startsWith('dockerd')) return false;
  const [run] = await newest(bench);
  return run !== undefined && run.id !== before && run.state === 'ended';
}

function complaints(verdict: Verdict): string[] {
  for (const name of Object.keys(total) as (keyof Verdict)[]) if (verdict[name].length > 0) total[name]++;
  return (Object.keys(total) as (keyof Verdict)[]).flatMap(name => verdict[name].map(why => `${name}: ${why}`));
}
