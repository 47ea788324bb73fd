import { Random } from '../faults/random.ts';
import { crashed, type Target } from './target.ts';
import { commands, envelopes, receipts } from './targets/commands.ts';
import { configs, hosts, intents, logs, manifests, policies, secrets } from './targets/files.ts';
import { questions } from './targets/questions.ts';
import { tokens } from './targets/tokens.ts';

/** The targets, each with its share of a hundred cases. */
const TARGETS: [Target, number][] = [
  [envelopes, 22],
  [commands, 13],
  [questions, 3],
  [receipts, 10],
  [tokens, 6],
  [intents, 8],
  [configs, 3],
  [policies, 7],
  [hosts, 4],
  [manifests, 4],
  [logs, 12],
  [secrets, 8],
];
const MAX_SHOWN = 10;

const cases = Number(process.env.CASES || 1_000_000);
const seed = Number(process.env.SEED || Math.floor(Math.random() * 2 ** 31));
if (!Number.isInteger(cases) || cases < 1 || !Number.isInteger(seed)) {
  console.error('CASES or SEED is not a valid whole number. Write for example: make fuzz CASES=20000 SEED=7');
  process.exit(2);
}
console.log(`seed=${seed}`);
const wheel = TARGETS.flatMap(([target, weight]) => Array.from({ length: weight }, () => target));
const counts = new Map<string, { all: number; letIn: number }>();
let [admitted, failed, shown] = [0, 0, 0];
let fault: unknown;
process.on('uncaughtException', error => {
  fault = error;
});
process.on('unhandledRejection', error => {
  fault = error;
});
const started = performance.now();
let peak = 0;
for (let number = 0; number < cases; number++) {
  // Each case has its own random numbers, so that it can be repeated alone.
  const random = new Random(seed + number * 0x9e3779b1);
  const target = random.pick(wheel);
  let verdict = await Promise.resolve()
    .then(() => target.run(random))
    .catch((error: unknown) => crashed(error, target.name));
  if (fault !== undefined) verdict = crashed(fault, target.name);
  fault = undefined;
  const count = counts.get(target.name) ?? { all: 0, letIn: 0 };
  counts.set(target.name, count);
  count.all++;
  if (verdict.kind === 'fine' && verdict.letIn) count.letIn++;
  if (number % 5_000 === 0) {
    peak = Math.max(peak, process.memoryUsage().rss);
    // Lets timers and sockets run.
    await new Promise(next => setImmediate(next));
  }
  if (verdict.kind === 'fine') continue;
  if (verdict.kind === 'admitted') admitted++;
  else failed++;
  if (++shown <= MAX_SHOWN)
    console.log(`✗ case ${number} (${target.name}): ${verdict.kind}: ${verdict.why}\n    ${verdict.input}`);
}
const summary = [...counts].map(([name, { all, letIn }]) => `${name} ${all} (${letIn} let in)`).join(', ');
console.log(
  `${summary}; ${((performance.now() - started) / 1000).toFixed(0)} s, at most ${Math.round(peak / 2 ** 20)} MiB`,
);
console.log(`cases=${cases} admitted=${admitted} crashed=${failed}`);
process.exit(admitted + failed === 0 ? 0 : 1);
