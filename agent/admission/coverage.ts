import { stackOf } from '../../intents/intent.ts';
import type { Deployment } from '../../protocol/command.ts';
import type { Answer, DeployedDocument } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { TrustEntry } from '../config/trust.ts';
import { refusals } from '../refusals.ts';
import type { DeployedKey, DeploymentStore } from '../store/deployments.ts';
import { ruleNameOf } from './rules.ts';

/** The commit of a command that no workflow sent. */
const NO_COMMIT = /^0+$/;

/** Lists the documents that a command deploys from a commit of its repository, each once. */
export function deployedKeys({ type, dry_run, undo, origin, intents }: Deployment): DeployedKey[] {
  if (type !== 'run' || dry_run || undo || NO_COMMIT.test(origin.sha)) return [];
  const keys = new Map<string, DeployedKey>();
  for (const { name, intent } of intents) {
    const stack = stackOf(intent);
    const sourceDir = 'source_dir' in intent ? (intent.source_dir ?? '') : '';
    const known = keys.get(`${stack}/${name}`);
    keys.set(`${stack}/${name}`, {
      repository: origin.repository,
      stack,
      intent: name,
      sourceDir: known?.sourceDir || sourceDir,
    });
  }
  return [...keys.values()];
}

/** Answers up to which commit the content of documents is approved. */
export function lastDeployments(
  documents: readonly DeployedDocument[],
  repository: string,
  deployments: Pick<DeploymentStore, 'last'>,
): Answer<'deployed'> {
  return documents.map(({ name, stack, source_dir = '' }) => {
    const last = deployments.last({ repository, stack, intent: name, sourceDir: source_dir });
    return { since: last?.sha ?? null, at: last?.at ?? null, isFirst: last?.isFirst ?? true };
  });
}

/**
 * Checks that the evidence of a command begins at the commit that was deployed last, and has a pull request for each commit
 * that the command lists since then. Must be called in the turn in which the run starts. Throws `Refused`:
 * `coverage-missing`, `deployed-meanwhile`, `older-not-allowed`.
 */
export function checkCoverage(
  command: Deployment,
  { allow }: TrustEntry,
  rules: readonly string[],
  deployments: Pick<DeploymentStore, 'last'>,
): void {
  const { approval, covers = [], origin } = command;
  const keys = deployedKeys(command);
  if (command.allow_older && keys.length > 0) {
    const isAllowed = (name: string) =>
      allow.some((rule, index) => ruleNameOf(rule, index) === name && rule.allow_older);
    const other = rules.find(name => !isAllowed(name));
    if (other !== undefined) throw new Refused(refusals.olderNotAllowed(other));
    return;
  }
  const approved = new Set(approval && [approval, ...(approval.with ?? [])].map(one => one.pull_request));
  for (const key of keys) {
    const last = deployments.last(key);
    if (!last || last.sha === origin.sha) continue;
    const cover = covers.find(({ name, stack }) => name === key.intent && stack === key.stack);
    if (!cover) throw new Refused(refusals.coverageMissing(`"${key.intent}" from ${last.sha.slice(0, 8)} on`));
    if (cover.since !== last.sha) throw new Refused(refusals.deployedMeanwhile(key.intent, last.sha.slice(0, 8)));
    const open = approval && cover.commits.find(({ pull_request }) => !approved.has(pull_request));
    if (open)
      throw new Refused(
        refusals.coverageMissing(`the commit ${open.sha.slice(0, 8)} of pull request #${open.pull_request}`),
      );
  }
}
