import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { type LoadedIntent, loadIntents } from '../../intents/load.ts';
import { InvalidIntents } from '../../intents/problem.ts';
import { describeStep } from '../carry-out.ts';
import { Config, readConfig } from '../config.ts';
import type { Shipped } from '../executors/executor.ts';
import { executors } from '../executors/index.ts';
import { blindLook } from '../look.ts';
import { siteOf } from '../main.ts';
import { CannotPlan, type Plan } from '../plan.ts';

/** Shows what an intent means on a host that is not asked: every step, nothing started. */
export async function run(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      'dry-run': { type: 'boolean', default: false },
      config: { type: 'string' },
      param: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
    },
  });
  const [file] = positionals;
  if (file === undefined || !values['dry-run']) {
    process.stderr.write(
      'usage: chatops run FILE --dry-run [--config FILE] [--param name=value …] [--json]\nWithout --dry-run an intent is carried out by an agent; use the action.\n',
    );
    return 2;
  }
  const site = siteOf(
    values.config === undefined ? Config.parse({ agent: 'here', trust: [ANY] }) : readConfig(values.config),
  );
  const params = Object.fromEntries(
    values.param.map(pair => [pair.split('=', 1)[0] ?? '', pair.slice(pair.indexOf('=') + 1)]),
  );
  try {
    const plans: { document: number; plan: Plan }[] = [];
    for (const loaded of loadIntents([{ file, text: readFileSync(file, 'utf8') }], params)) {
      plans.push({ document: loaded.document, plan: await planBlind(loaded, site) });
    }
    if (values.json) console.log(JSON.stringify(plans, null, 2));
    else for (const { plan } of plans) for (const line of linesOf(plan)) console.log(line);
    return 0;
  } catch (error) {
    if (error instanceof InvalidIntents) process.stderr.write(`${error.message}\n`);
    else if (error instanceof CannotPlan) process.stderr.write(`${error.code}: ${error.message} ${error.remedy}\n`);
    else throw error;
    return 1;
  }
}

async function planBlind(
  { intent, name, document, documents }: LoadedIntent,
  site: ReturnType<typeof siteOf>,
): Promise<Plan> {
  const executor = executors.find(one => one.takes(intent));
  if (!executor)
    throw new CannotPlan('action-unsupported', `"${intent.action}" can't be carried out yet.`, 'Use rollout or scale.');
  const files = 'source_dir' in intent && intent.source_dir !== undefined ? shippedFrom(intent.source_dir) : [];
  return executor.plan(
    intent,
    { document: { name, document, documents, intent }, site, files, compare: false },
    blindLook,
  );
}

function linesOf(plan: Plan): string[] {
  return [`[DRY-RUN] ${plan.title}`, ...plan.steps.map(step => `[DRY-RUN]   ${step.name}: ${describeStep(step)}`)];
}

/** The files below a folder of the working directory, as a rollout would ship them. */
function shippedFrom(folder: string): Shipped[] {
  if (!existsSync(folder)) {
    throw new CannotPlan(
      'source-dir-missing',
      `There is no folder "${folder}" here.`,
      'Call this from the top of the repository, or correct source_dir.',
    );
  }
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => lstatSync(path).isFile())
    .map(path => ({
      path: relative(folder, path),
      mode: lstatSync(path).mode & 0o111 ? 0o755 : 0o644,
      sha256: createHash('sha256').update(readFileSync(path)).digest('hex'),
    }));
}

/** A dry run trusts nobody, but a configuration without an entry is none. */
const ANY = {
  name: 'nobody',
  key: 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=',
  repository: 'nobody/nothing',
  allow: [{ actions: ['rollout'], stacks: ['none'] }],
};
