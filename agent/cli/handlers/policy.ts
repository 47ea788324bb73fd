import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { loadIntents } from '../../../intents/load.ts';
import { yamlValue } from '../../../intents/yaml-value.ts';
import { type Answer, type PolicyCase, PolicyContainers, PolicyLabel } from '../../../protocol/question.ts';
import { simulatePolicy } from '../../admission/simulate.ts';
import { readConfig } from '../../config/load.ts';
import { DockerEngine } from '../../outbound/docker.ts';
import { createHostReader } from '../../system/host-reader.ts';
import type { Arguments, Options } from '../commands.ts';
import { parseParams } from '../params.ts';
import { cliRefusals } from '../refusals.ts';
import { createRemoteAgent } from '../remote.ts';

/** One expectation: the decision of an entry about an intent. */
const PolicyTest = z.strictObject({
  name: z.string().min(1),
  entry: z.string().describe('The name of an entry under trust.'),
  intent: z.looseObject({ action: z.string() }),
  expect: z.enum(['allowed', 'refused']),
  code: z.string().optional().describe('The code of the refusal.'),
  rule: z.string().optional().describe('The rule that allows it.'),
  event: z.string().default('push'),
  labels: z.array(PolicyLabel).default([]),
  approvals: z.int().min(0).max(20).default(0),
  merged: z.boolean().default(true).describe('false: the command has no pull request.'),
  plan_digest: z.boolean().default(false),
  containers: PolicyContainers.optional().describe('Containers and their stacks, in place of those of the host.'),
  at: z.coerce.date().optional(),
});
const Cases = z.strictObject({ cases: z.array(PolicyTest).min(1) });
type PolicyTest = z.infer<typeof PolicyTest>;

type PolicyDecisions = Answer<'policy'>;

/** Compares agent.yaml with the expectations of files. */
export async function policyTestCommand(
  [files]: Arguments<'policy test'>,
  options: Options<'policy test'>,
): Promise<number> {
  const tests = files.flatMap(readTests);
  const decisions = await evaluatePolicy(tests.map(toPolicyCase), options);
  const results = tests.map((test, index) => compare(test, decisions[index]));
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else {
    for (const { name, passed, said, why, wanted } of results)
      console.log(`${passed ? '✓' : '✗'} ${name}: ${said} (${why})${passed ? '' : `, expected ${wanted}`}`);
    const failed = results.filter(({ passed }) => !passed).length;
    if (failed > 0) console.log(`${failed} of ${results.length} decisions differ from the expectation.`);
  }
  return results.every(({ passed }) => passed) ? 0 : 1;
}

/** Shows what each rule of an entry decides about the intents of a file. */
export async function policyExplainCommand(
  [file]: Arguments<'policy explain'>,
  options: Options<'policy explain'>,
): Promise<number> {
  const loaded = loadIntents([{ file, text: readFileSync(file, 'utf8') }], parseParams(options.param));
  const circumstances = {
    entry: options.entry,
    event: options.event,
    labels: options.label,
    approvals: parseApprovals(options.approvals),
    merged: !options.unmerged,
    plan_digest: options['plan-digest'],
    ...(options.at === undefined ? {} : { at: parseTime(options.at) }),
  };
  const cases = loaded.map(({ intent }) => ({ ...circumstances, intent }));
  const decisions = (await evaluatePolicy(cases, options)).map((decision, index) => ({
    document: loaded[index]?.document ?? index + 1,
    ...decision,
  }));
  if (options.json) console.log(JSON.stringify(decisions, null, 2));
  else for (const decision of decisions) explain(decision);
  return decisions.every(({ refusal }) => refusal === undefined) ? 0 : 1;
}

/** Returns the decisions of an agent elsewhere, or those of this host's agent.yaml. Throws `Refused`. */
async function evaluatePolicy(supposed: PolicyCase[], options: Options<'policy test'>): Promise<PolicyDecisions> {
  const remote = createRemoteAgent(options);
  if (remote) return remote.ask({ about: 'policy', supposed });
  const config = readConfig(options.config);
  const host = createHostReader(new DockerEngine(config.docker.socket), {}, async () => undefined);
  return simulatePolicy(supposed, config, host);
}

function parseApprovals(text: string): number {
  if (/^(1?\d|20)$/.test(text)) return Number(text);
  throw cliRefusals.optionInvalid(`--approvals ${text}`, 'Write a number from 0 to 20.');
}

function parseTime(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime()))
    throw cliRefusals.optionInvalid(`--at ${text}`, 'Write a time such as 2026-11-23T10:00:00+01:00.');
  return at.toISOString();
}

function explain({ document, rule, refusal, findings }: PolicyDecisions[number] & { document: number }): void {
  console.log(
    refusal === undefined
      ? `document ${document}: ✓ allowed by ${rule}`
      : `document ${document}: ✗ ${refusal.code}: ${refusal.message} ${refusal.remedy}`,
  );
  for (const finding of findings) {
    const decision = finding.refusal
      ? `${finding.refusal.code}: ${finding.refusal.message}`
      : finding.rule.startsWith('deny')
        ? 'does not deny it'
        : 'allows it';
    console.log(`    ${finding.rule}: ${decision}`);
  }
}

function toPolicyCase({ name, intent, at, expect, code, rule, ...circumstances }: PolicyTest): PolicyCase {
  const [loaded] = loadIntents([{ file: name, text: JSON.stringify(intent) }]);
  if (!loaded) throw cliRefusals.casesInvalid(name, 'no intent');
  return { ...circumstances, intent: loaded.intent, ...(at === undefined ? {} : { at: at.toISOString() }) };
}

function compare({ name, expect, code, rule }: PolicyTest, decision: PolicyDecisions[number] | undefined) {
  const refusal = decision?.refusal;
  const said = refusal === undefined ? 'allowed' : 'refused';
  const passed =
    said === expect &&
    (code === undefined || refusal?.code === code) &&
    (rule === undefined || decision?.rule === rule);
  const why = refusal ? `${refusal.code}: ${refusal.message}` : `by ${decision?.rule}`;
  const wanted = [expect, code, rule].filter(Boolean).join(' ');
  return { name, passed, said, rule: decision?.rule ?? null, code: refusal?.code ?? null, why, wanted };
}

function readTests(file: string): PolicyTest[] {
  const document = parseDocument(readFileSync(file, 'utf8'), { uniqueKeys: true, strict: true, schema: 'core' });
  const [broken] = document.errors;
  if (broken) throw cliRefusals.casesInvalid(file, broken.message);
  const read = Cases.safeParse(yamlValue(document, 20));
  if (read.success) return read.data.cases;
  throw cliRefusals.casesInvalid(
    file,
    read.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`).join('; '),
  );
}
