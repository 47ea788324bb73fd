import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { loadIntents } from '../../intents/load.ts';
import { yamlValue } from '../../intents/yaml-value.ts';
import type { Answer, PolicyCase } from '../../protocol/question.ts';
import { simulatePolicy } from '../admission/simulate.ts';
import { readConfig } from '../config/load.ts';
import { parseParams } from './params.ts';
import { cliRefusals } from './refusals.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

const USAGE = `usage: chatops policy test CASES.yaml… [--json] [--config FILE | --agent …]
       chatops policy explain INTENT.yaml --entry NAME [--event push] [--label NAME …] [--approvals N] [--plan-digest]
               [--at TIME] [--unmerged] [--param name=value …]
               [--json] [--config FILE | --agent …]
`;

/** One expectation: what an entry says to an intent. */
const PolicyTest = z.strictObject({
  name: z.string().min(1),
  entry: z.string().describe('The name of an entry under trust.'),
  intent: z.looseObject({ action: z.string() }),
  expect: z.enum(['allowed', 'refused']),
  code: z.string().optional().describe('The code of the refusal.'),
  rule: z.string().optional().describe('The rule that allows it.'),
  event: z.string().default('push'),
  labels: z.array(z.string()).default([]).describe('Set after the last push, by somebody who may write.'),
  approvals: z.int().min(0).max(20).default(0),
  merged: z.boolean().default(true).describe('false: the command has no pull request.'),
  plan_digest: z.boolean().default(false),
  at: z.coerce.date().optional(),
});
const Cases = z.strictObject({ cases: z.array(PolicyTest).min(1) });
type PolicyTest = z.infer<typeof PolicyTest>;

type PolicyDecisions = Answer<'policy'>;
/** Has the policy of an agent judge: of this host's, or of one elsewhere. Throws `Refused`. */
type EvaluatePolicy = (supposed: PolicyCase[]) => Promise<PolicyDecisions>;

/** `test` holds agent.yaml against expectations; `explain` tells what each rule of an entry says to an intent. */
export async function policyCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...REMOTE_OPTIONS,
      config: { type: 'string', default: '/etc/chatops/agent.yaml' },
      entry: { type: 'string' },
      event: { type: 'string', default: 'push' },
      label: { type: 'string', multiple: true, default: [] },
      approvals: { type: 'string', default: '0' },
      unmerged: { type: 'boolean', default: false },
      'plan-digest': { type: 'boolean', default: false },
      at: { type: 'string' },
      param: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
    },
  });
  const [verb, ...files] = positionals;
  const remote = createRemoteAgent(values);
  const judge: EvaluatePolicy = async supposed => {
    if (remote) return remote.ask({ about: 'policy', supposed });
    const { trust } = readConfig(values.config);
    return supposed.map(one => simulatePolicy(one, trust));
  };
  if (verb === 'test' && files.length > 0) return runTests(files, judge, values.json);
  if (verb !== 'explain' || files.length !== 1 || values.entry === undefined) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const [file = ''] = files;
  const loaded = loadIntents([{ file, text: readFileSync(file, 'utf8') }], parseParams(values.param));
  const circumstances = {
    entry: values.entry,
    event: values.event,
    labels: values.label,
    approvals: numberOf(values.approvals),
    merged: !values.unmerged,
    plan_digest: values['plan-digest'],
    ...(values.at === undefined ? {} : { at: timeOf(values.at) }),
  };
  const judgements = await judge(loaded.map(({ intent }) => ({ ...circumstances, intent })));
  const judged = judgements.map((judgement, index) => ({
    document: loaded[index]?.document ?? index + 1,
    ...judgement,
  }));
  if (values.json) console.log(JSON.stringify(judged, null, 2));
  else for (const one of judged) explain(one);
  return judged.every(({ refusal }) => refusal === undefined) ? 0 : 1;
}

function numberOf(text: string): number {
  if (/^(1?\d|20)$/.test(text)) return Number(text);
  throw cliRefusals.optionInvalid(`--approvals ${text}`, 'Write a number from 0 to 20.');
}

function timeOf(text: string): string {
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
    const says = finding.refusal
      ? `${finding.refusal.code}: ${finding.refusal.message}`
      : finding.rule.startsWith('deny')
        ? 'nothing against it'
        : 'allows it';
    console.log(`    ${finding.rule}: ${says}`);
  }
}

async function runTests(files: string[], judge: EvaluatePolicy, json: boolean): Promise<number> {
  const cases = files.flatMap(readCases);
  const judgements = await judge(cases.map(toPolicyCase));
  const results = cases.map((one, index) => resultOf(one, judgements[index]));
  if (json) console.log(JSON.stringify(results, null, 2));
  else {
    for (const { name, passed, said, why, wanted } of results)
      console.log(`${passed ? '✓' : '✗'} ${name}: ${said} (${why})${passed ? '' : `, expected ${wanted}`}`);
    const failed = results.filter(({ passed }) => !passed).length;
    if (failed > 0) console.log(`${failed} not as expected`);
  }
  return results.every(({ passed }) => passed) ? 0 : 1;
}

function toPolicyCase({ name, intent, at, expect, code, rule, ...circumstances }: PolicyTest): PolicyCase {
  const [loaded] = loadIntents([{ file: name, text: JSON.stringify(intent) }]);
  if (!loaded) throw cliRefusals.casesInvalid(name, 'no intent');
  return { ...circumstances, intent: loaded.intent, ...(at === undefined ? {} : { at: at.toISOString() }) };
}

function resultOf({ name, expect, code, rule }: PolicyTest, judgement: PolicyDecisions[number] | undefined) {
  const refusal = judgement?.refusal;
  const said = refusal === undefined ? 'allowed' : 'refused';
  const passed =
    said === expect &&
    (code === undefined || refusal?.code === code) &&
    (rule === undefined || judgement?.rule === rule);
  const why = refusal ? `${refusal.code}: ${refusal.message}` : `by ${judgement?.rule}`;
  const wanted = [expect, code, rule].filter(Boolean).join(' ');
  return { name, passed, said, rule: judgement?.rule ?? null, code: refusal?.code ?? null, why, wanted };
}

function readCases(file: string): PolicyTest[] {
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
