import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import type { Intent } from '../../intents/intent.ts';
import { loadIntents } from '../../intents/load.ts';
import { yamlValue } from '../../intents/yaml-value.ts';
import type { Approval } from '../../protocol/command.ts';
import { type Config, readConfig } from '../config.ts';
import { type Judgement, judge } from '../policy.ts';
import { paramsOf } from './params.ts';

const USAGE = `usage: chatops policy test CASES.yaml… [--json] [--config FILE]
       chatops policy explain INTENT.yaml --entry NAME [--event push] [--label NAME …] [--approvals N] [--plan-digest]
               [--at TIME] [--unmerged] [--param name=value …] [--json] [--config FILE]
`;

/** One expectation: what an entry says to an intent. */
const Case = z.strictObject({
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
const Cases = z.strictObject({ cases: z.array(Case).min(1) });
type Case = z.infer<typeof Case>;

/** `test` holds agent.yaml against expectations; `explain` tells what each rule of an entry says to an intent. */
export function policy(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
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
  if (verb === 'test' && files.length > 0) return test(files, readConfig(values.config), values.json);
  if (verb !== 'explain' || files.length !== 1 || values.entry === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const [file = ''] = files;
  const params = paramsOf(values.param);
  const asked = {
    entry: values.entry,
    event: values.event,
    labels: values.label,
    approvals: Number(values.approvals),
    merged: !values.unmerged,
    plan_digest: values['plan-digest'],
    ...(values.at === undefined ? {} : { at: new Date(values.at) }),
  };
  const config = readConfig(values.config);
  const judged = loadIntents([{ file, text: readFileSync(file, 'utf8') }], params).map(({ document, intent }) => ({
    document,
    ...ask(config, { ...asked, intent }),
  }));
  if (values.json) console.log(JSON.stringify(judged, null, 2));
  else for (const one of judged) explain(one);
  return judged.every(({ refusal }) => refusal === undefined) ? 0 : 1;
}

function explain({ document, rule, refusal, findings }: Judgement & { document: number }): void {
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

function test(files: string[], config: Config, json: boolean): number {
  let failed = 0;
  const results: object[] = [];
  for (const file of files) {
    for (const one of readCases(file)) {
      const [loaded] = loadIntents([{ file: one.name, text: JSON.stringify(one.intent) }]);
      if (!loaded) throw new Error(`${one.name}: no intent`);
      const { rule, refusal } = ask(config, { ...one, intent: loaded.intent });
      const said = refusal === undefined ? 'allowed' : 'refused';
      const isRight =
        said === one.expect &&
        (one.code === undefined || refusal?.code === one.code) &&
        (one.rule === undefined || rule === one.rule);
      if (!isRight) failed++;
      const why = refusal ? `${refusal.code}: ${refusal.message}` : `by ${rule}`;
      const wanted = [one.expect, one.code, one.rule].filter(Boolean).join(' ');
      results.push({ name: one.name, passed: isRight, said, rule: rule ?? null, code: refusal?.code ?? null, wanted });
      if (json) continue;
      console.log(`${isRight ? '✓' : '✗'} ${one.name}: ${said} (${why})${isRight ? '' : `, expected ${wanted}`}`);
    }
  }
  if (json) console.log(JSON.stringify(results, null, 2));
  else if (failed > 0) console.log(`${failed} not as expected`);
  return failed === 0 ? 0 : 1;
}

function readCases(file: string): Case[] {
  const document = parseDocument(readFileSync(file, 'utf8'), { uniqueKeys: true, strict: true, schema: 'core' });
  const [broken] = document.errors;
  if (broken) throw new Error(`${file}: ${broken.message}`);
  const read = Cases.safeParse(yamlValue(document, 20));
  if (read.success) return read.data.cases;
  throw new Error(`${file}: ${read.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`).join('; ')}`);
}

type Asked = Omit<Case, 'name' | 'intent' | 'expect' | 'code' | 'rule'> & { intent: Intent };

function ask(config: Config, asked: Asked): Judgement {
  const entry = config.trust.find(({ name }) => name === asked.entry);
  if (!entry)
    throw new Error(
      `There is no trust entry "${asked.entry}". There are: ${config.trust.map(({ name }) => name).join(', ')}.`,
    );
  const facts = {
    event: asked.event,
    approval: asked.merged ? evidenceFor(asked) : null,
    looksOnly: false,
    at: asked.at ?? new Date(),
    ...(asked.plan_digest ? { planDigest: '0'.repeat(64) } : {}),
  };
  return judge(asked.intent, facts, entry);
}

/** Labels and approvals as they are wanted: what a rule says to late or foreign ones, the refusals tell. */
function evidenceFor({ labels, approvals }: Asked): Approval {
  return {
    pull_request: 1,
    head_sha: '1'.repeat(40),
    merge_sha: '2'.repeat(40),
    merged_by: 'somebody',
    labels: labels.map(name => ({ name, by: 'somebody', permission: 'write', at: '', after_last_push: true })),
    approvals: Array.from({ length: approvals }, (_, index) => ({
      by: `reviewer-${index + 1}`,
      permission: 'write',
      on_head: true,
    })),
  };
}
