import { setTimeout as sleep } from 'node:timers/promises';
import { Bench, OPERATIONS } from './bench.ts';
import { checkRound, newestRuns, type Verdict, waitForNewestRun } from './check-round.ts';
import { PrivateEngine } from './engine.ts';
import { Random } from './random.ts';
import { FAULTS, type Fault, strike } from './strike.ts';

const rounds = Number(process.env.ROUNDS || 200);
const seed = Number(process.env.SEED || 1);
/** The latest time of a fault after the start of the job: from before the connection to after the end of most rounds. */
const STRIKES_WITHIN_MS = 4_000;

const total = { lost: 0, doubled: 0, down: 0, locks: 0, orphans: 0 };
const outcomes = new Map<string, number>();

console.log(`faults: ${rounds} rounds, seed ${seed}`);
const engine = new PrivateEngine();
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
    console.log('The harness failed:', error, `\n${bench.world.host.log.slice(-4000)}`);
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

/** Runs one operation with one fault at a random moment, and checks the host afterwards. */
async function play(bench: Bench, round: number): Promise<void> {
  // To repeat a round alone: `ROUNDS=1 SEED=<seed + round - 1>` has the same operation, fault and moment.
  const random = new Random(seed + round - 1);
  const operation = random.pick(OPERATIONS);
  const fault = random.pick(FAULTS);
  const delay = random.below(STRIKES_WITHIN_MS);
  const started = Date.now();
  const [before] = await newestRuns(bench);
  const job = bench.begin(operation, random.below(100));
  await sleep(delay);
  const isLate = await isTooLate(bench, before?.id, fault);
  if (!isLate) await strike(fault, bench, job.child, random);
  const finished = await job.finished;
  const wasKilled = finished.signal !== null;
  const run = await waitForNewestRun(bench);
  const isNew = run === undefined || run.id !== before?.id;
  const verdict = await checkRound(bench, run, wasKilled ? undefined : finished);
  const outcome = isNew ? (run?.outcome ?? 'not finished') : 'no run';
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  const problems = countProblems(verdict);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(
    `${problems.length === 0 ? '✓' : '✗'} ${round} (seed ${seed + round - 1}): ${operation}, ${fault} after ${delay} ms${isLate ? ' (too late)' : ''} → ${outcome} (${seconds} s)`,
  );
  for (const line of problems) console.log(`    ${line}`);
  if (problems.length > 0 && !wasKilled) console.log(finished.log.replaceAll(/^/gm, '    | '));
}

/** Returns true if the run has finished: the effect of a killed engine on idle containers is not the product's concern. */
async function isTooLate(bench: Bench, before: string | undefined, fault: Fault): Promise<boolean> {
  if (!fault.startsWith('dockerd')) return false;
  const [run] = await newestRuns(bench);
  return run !== undefined && run.id !== before && run.state === 'ended';
}

function countProblems(verdict: Verdict): string[] {
  for (const name of Object.keys(total) as (keyof Verdict)[]) if (verdict[name].length > 0) total[name]++;
  return (Object.keys(total) as (keyof Verdict)[]).flatMap(name => verdict[name].map(problem => `${name}: ${problem}`));
}
