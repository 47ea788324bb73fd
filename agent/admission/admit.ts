import { join } from 'node:path';
import { Command, type Deployment } from '../../protocol/command.ts';
import type { PolicyCase } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { OfferFrame } from '../../protocol/wire.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import { siteOf } from '../config/site.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { Executor } from '../executors/executor.ts';
import type { CircuitBreakers } from '../outbound/circuit-breaker.ts';
import { identifyPeer, type PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import type { DeploymentStore } from '../store/deployments.ts';
import type { StoredRun } from '../store/runs.ts';
import { type AdmittedCommand, type CommandSender, LOCAL, markAdmitted } from './admitted.ts';
import {
  type AuthContext,
  type AuthenticatedOffer,
  type AuthenticatedSender,
  authenticate,
  type Challenge,
  isStillTrusted,
  type TrustedKey,
  trustedKeys,
} from './authenticate.ts';
import { assignExecutors, checkCommandGraph, checkDocument, checkShippedFiles } from './check-command.ts';
import { checkSender } from './check-sender.ts';
import { confirmWithGitHub } from './confirm-with-github.ts';
import { Issuer } from './oidc.ts';
import { evaluateRules, type PolicyDecision, type PolicyInput, type TouchedStack } from './rules.ts';
import { simulatePolicy } from './simulate.ts';
import { findTouchedStacks, type StackEvidence } from './touched-stacks.ts';

/**
 * The origin of a command: an authenticated sender, a user of the agent's own socket (no rule applies), or the host itself by
 * a schedule or a webhook (the rules of its trust entry apply, without approval).
 */
export type AdmissionSender =
  | { kind: 'key'; sender: AuthenticatedSender; address: string }
  | { kind: 'local' }
  | { kind: 'host'; entry: TrustEntry };

export interface AdmissionOptions {
  live: Live<Config>;
  executors: Executor[];
  /** Shows to which stacks containers, volumes and backups belong. */
  host: StackEvidence;
  circuits: CircuitBreakers;
  deployments: Pick<DeploymentStore, 'last'>;
  /** The public keys of this agent. */
  ownKeys: () => readonly string[];
  /** Keys that are trusted for now, in addition to those of agent.yaml: the key of a selftest. */
  temporaryKeys?: () => TrustedKey[];
  now?: () => Date;
}

/** Decides which commands become runs: authentication, then admission. Follows agent.yaml when it is reloaded. */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #now: () => Date;
  #trust: AuthContext;

  /** Throws {@link ConfigError} if a file of keys is not readable. */
  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
    this.#trust = this.#createTrust(options.live.current);
    options.live.onChange(next => {
      const trust = this.#createTrust(next);
      return () => {
        this.#trust = trust;
      };
    });
  }

  /** The keys and entries of agent.yaml, without temporary keys. */
  get trust(): AuthContext {
    return this.#trust;
  }

  /** Throws `Refused`. */
  authenticate(frame: OfferFrame, challenge: Challenge, from: PeerAddress): Promise<AuthenticatedOffer> {
    const temporary = this.#options.temporaryKeys?.() ?? [];
    const context = {
      ...this.#trust,
      keys: [...this.#trust.keys, ...temporary],
      entries: [...this.#trust.entries, ...temporary.map(({ entry }) => entry)],
    };
    return authenticate(frame, context, challenge, from);
  }

  /** Returns true if agent.yaml as it is now still trusts the sender. */
  isStillTrusted(sender: AuthenticatedSender): boolean {
    return isStillTrusted(sender, this.#trust);
  }

  /**
   * Admits a command after the signature was checked: audience, repository, rules, graph, paths and files, in this order and
   * only here. The sender gets the first refusal. Throws `Refused`.
   */
  async admit(command: Deployment, from: AdmissionSender): Promise<AdmittedCommand> {
    const { live, executors, host, circuits, deployments, ownKeys } = this.#options;
    const config = live.current;
    const site = siteOf(config);
    if (from.kind === 'key') checkSender(command, from.sender, config);
    const intents = command.intents.map(({ intent }) => intent);
    const stacks = from.kind === 'local' ? [] : await findTouchedStacks(intents, site, host);
    const rules = this.#applyRules(command, from, stacks);
    checkCommandGraph(command);
    const documents = assignExecutors(command, executors);
    for (const document of documents) await checkDocument(document, command.dry_run, site);
    checkShippedFiles(command);
    if (from.kind === 'key' && from.sender.entry.confirm_with_github && command.type === 'run' && !command.dry_run) {
      const wanted = labelsFor(command, from.sender.entry);
      const approval = await confirmWithGitHub(config, command, {
        ...{ circuits, deployments, wanted },
        ownKeys: ownKeys(),
      });
      // The rules apply to GitHub's evidence as well; the run keeps the evidence that was sent.
      this.#applyRules({ ...command, approval }, from, stacks);
    }
    return markAdmitted({ command, sender: describeSender(from, rules), documents });
  }

  /** Returns the decisions about supposed commands. Throws `Refused` if an entry does not exist. */
  simulate(cases: readonly PolicyCase[]): Promise<PolicyDecision[]> {
    const { live, host } = this.#options;
    return simulatePolicy(cases, live.current, host);
  }

  /** Returns the rule that allows each document. `stacks`: those that each document touches. Throws `Refused`. */
  #applyRules(command: Deployment, from: AdmissionSender, stacks: TouchedStack[][]): string[] {
    if (from.kind === 'local') return [];
    const entry = from.kind === 'key' ? from.sender.entry : from.entry;
    const capabilities = from.kind === 'key' ? from.sender.peer?.capabilities : undefined;
    const input: Omit<PolicyInput, 'stacks'> = {
      event: command.origin.event,
      approval: command.approval,
      readOnly: command.type === 'plan' || command.dry_run,
      isHostRun: from.kind === 'host',
      planDigest: command.plan_digest,
      at: this.#now(),
      ...(capabilities ? { capabilities } : {}),
    };
    // A document outside the scope of every rule is refused before another one that lacks a label or an approval.
    const evaluate = (readOnly: boolean) =>
      command.intents.map(({ intent }, index) =>
        requireAllowed(evaluateRules(intent, { ...input, readOnly, stacks: stacks[index] ?? [] }, entry)),
      );
    evaluate(true);
    return evaluate(input.readOnly);
  }

  #createTrust(config: Config): AuthContext {
    return {
      agent: config.agent,
      keys: trustedKeys(config),
      entries: config.trust,
      issuer: new Issuer(config.oidc, join(config.state_dir, 'oidc-keys.json'), this.#options.circuits),
      identify: (from, rules) => identifyPeer(config.tailscale.socket, from, rules),
    };
  }
}

/** Lists the labels that the intents or the rules of the entry may require. */
function labelsFor({ intents }: Deployment, { allow }: TrustEntry): string[] {
  return [
    ...intents.flatMap(({ intent }) => intent.label_required ?? []),
    ...allow.flatMap(rule => rule.require_labels ?? []),
  ];
}

/** Returns the rule that allows the intent. Throws `Refused`. */
function requireAllowed({ rule, refusal }: PolicyDecision): string {
  if (refusal || rule === undefined) throw new Refused(refusal ?? refusals.denied('', 'the command'));
  return rule;
}

function describeSender(from: AdmissionSender, rules: string[]): CommandSender {
  switch (from.kind) {
    case 'key':
      return { trust: from.sender.entry.name, keyId: from.sender.id, address: from.address, rules };
    case 'local':
      return { trust: LOCAL, keyId: '', address: LOCAL, rules };
    case 'host':
      return { trust: from.entry.name, keyId: '', address: LOCAL, rules };
  }
}

/** Returns a run that an earlier agent admitted, or undefined if this version can't read or execute its command. */
export function readmit(stored: StoredRun, executors: Executor[]): AdmittedCommand | undefined {
  const { files, ...rest } = JSON.parse(stored.command) as { files: object[] };
  // The contents of shipped files are in the run's folder, not in the store.
  const command = Command.safeParse({ ...rest, files: files.map(file => ({ ...file, content: '' })) }).data;
  if (command?.type !== 'run' && command?.type !== 'plan') return undefined;
  const documents = command.intents.flatMap(document => {
    const executor = executors.find(one => one.supports(document.intent));
    return executor ? [{ document, executor }] : [];
  });
  if (documents.length !== command.intents.length) return undefined;
  const sender: CommandSender = { trust: stored.trust, keyId: stored.keyId, address: stored.address, rules: [] };
  return markAdmitted({ command, sender, documents });
}
