import { parseDuration } from '../../intents/duration.ts';
import { type Intent, parseBackupSubject, stackOf } from '../../intents/intent.ts';
import type { Approval } from '../../protocol/command.ts';
import { checkApprovals, checkLabel } from '../../protocol/labels.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import { isWithin, parseWindow } from '../config/time-windows.ts';
import { type AllowRule, type DenyRule, matchesPattern, type TrustEntry } from '../config/trust.ts';
import type { Capability } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';

/** A stack that an intent touches. All that it touches must be allowed, and none denied. */
export interface TouchedStack {
  /** The name of its folder; empty: no stack; undefined: any stack, because it is not known which. */
  name: string | undefined;
  /** Names the thing that belongs to it: `the container db`. Absent if the intent names the stack itself. */
  by?: string;
  /** The cause for which the stack is not known. */
  unresolved?: string;
  /** agent.yaml lets the stack of the intent write there: only deny rules count. */
  granted?: true;
}

/** The circumstances of a command that the rules look at, in addition to the intent. */
export interface PolicyInput {
  /** GitHub's event: `push`. */
  event: string;
  approval: Approval | null;
  /** A plan or a dry run changes nothing, so that only the scope of the rules counts. */
  readOnly: boolean;
  /** The host starts the run itself, so that there is no approval. */
  isHostRun?: boolean | undefined;
  planDigest?: string | undefined;
  at: Date;
  /** The stacks that the intent touches: at least one. */
  stacks: readonly TouchedStack[];
  /** The capabilities of the peer in the tailnet; absent if the entry does not ask. They only narrow. */
  capabilities?: Capability[] | undefined;
}

/** The finding of one rule. Without `refusal` an allow rule allows the intent, and a deny rule does not deny it. */
interface RuleFinding {
  rule: string;
  refusal?: Refusal | undefined;
}

/** The decision of a trust entry about one intent: the rule that allows it, or the refusal; and the finding of each rule. */
export interface PolicyDecision {
  rule?: string | undefined;
  refusal?: Refusal | undefined;
  findings: RuleFinding[];
}

/**
 * Evaluates the rules of one trust entry. Nothing is allowed unless a rule allows it; a deny rule overrides all others.
 * Each touched stack needs a rule that allows it; several rules may share them.
 */
export function evaluateRules(intent: Intent, input: PolicyInput, entry: TrustEntry): PolicyDecision {
  const denyFindings = (entry.deny ?? []).map((rule, index) => {
    const name = rule.name ?? `deny.${index + 1}`;
    const refusal = findDenial(rule, name, intent, input.stacks);
    return { rule: name, ...(refusal ? { refusal } : {}) };
  });
  const needed = input.stacks.filter(({ granted }) => !granted);
  const allowFindings = entry.allow.map((rule, index) => {
    const refusals = needed.map(
      touched => findScopeMismatch(rule, intent, touched) ?? findUnmetRequirement(rule, intent, input),
    );
    const refusal = refusals.find(one => one !== undefined);
    return { rule: ruleNameOf(rule, index), refusals, ...(refusal ? { refusal } : {}) };
  });
  const findings = [...denyFindings, ...allowFindings.map(({ refusals: _, ...finding }) => finding)];
  const denied = denyFindings.find(({ refusal }) => refusal);
  if (denied?.refusal) return { refusal: denied.refusal, findings };
  const capabilityRefusal = needed
    .map(touched => checkCapabilities(input.capabilities, intent, touched))
    .find(refusal => refusal);
  if (capabilityRefusal) return { refusal: capabilityRefusal, findings };
  const allowing = needed.map((_, index) => allowFindings.find(({ refusals }) => !refusals[index])?.rule);
  const known = allowing.filter(rule => rule !== undefined);
  if (known.length === needed.length && known.length > 0) return { rule: [...new Set(known)].join(', '), findings };
  const refused = needed.filter((_, index) => allowing[index] === undefined);
  return { refusal: findClosestRefusal(intent, input, entry, refused), findings };
}

/**
 * Returns the most helpful refusal: for a stack that no rule has in its scope, the part of the scope that no rule has; else
 * the requirement that is not met. `refused`: the touched stacks that no rule allows.
 */
function findClosestRefusal(
  intent: Intent,
  input: PolicyInput,
  { allow }: TrustEntry,
  refused: TouchedStack[],
): Refusal {
  const outside = refused.find(touched => allow.every(rule => findScopeMismatch(rule, intent, touched)));
  const [touched] = outside ? [outside] : refused;
  // An intent touches at least one stack, or none by an empty name.
  if (!touched) return refusals.stackNotAllowed('an unknown stack');
  const [inScope] = allow.filter(rule => !findScopeMismatch(rule, intent, touched));
  const unmet = inScope && findUnmetRequirement(inScope, intent, input);
  if (unmet) return unmet;
  const actionRefusal = refusals.actionNotAllowed(intent.action, describePlace(touched));
  const forAction = allow.filter(rule => rule.actions.includes(intent.action));
  if (forAction.length === 0) return actionRefusal;
  const forStack = allow.filter(rule => allowsStack(rule, touched));
  if (forStack.length === 0) return refuseStack(touched);
  const [both] = forStack.filter(rule => forAction.includes(rule));
  return (both && findScopeMismatch(both, intent, touched)) ?? actionRefusal;
}

/** Returns a refusal if the rule is not about this intent and this stack. */
function findScopeMismatch(rule: AllowRule, intent: Intent, touched: TouchedStack): Refusal | undefined {
  if (!rule.actions.includes(intent.action)) return refusals.actionNotAllowed(intent.action, describePlace(touched));
  if (!allowsStack(rule, touched)) return refuseStack(touched);
  const { service, guests, kind, place } = readIntentSubjects(intent);
  if (rule.services && !matchesAny(rule.services, service))
    return refusals.actionNotAllowed(intent.action, describePlace(touched));
  const other = guests.find(guest => rule.guests && !matchesAny(rule.guests, guest));
  if (rule.guests && (other !== undefined || guests.length === 0)) return refusals.guestNotAllowed(other ?? 'none');
  if (rule.kinds && !rule.kinds.some(one => one === kind)) return refusals.kindNotAllowed(kind ?? intent.action);
  if (rule.destinations && !rule.destinations.some(one => isBelow(one, place)))
    return refusals.placeNotAllowed(place ?? 'none');
  return undefined;
}

/** Returns true if the rule is about that stack. No stack, and a stack that is not known, need a rule for all stacks. */
function allowsStack({ stacks }: Pick<AllowRule, 'stacks'>, { name }: TouchedStack): boolean {
  return matchesStack(stacks, name ?? '');
}

function refuseStack({ name, by, unresolved }: TouchedStack): Refusal {
  if (unresolved !== undefined) return refusals.stackUnresolved(by ?? 'the intent', unresolved);
  return refusals.stackNotAllowed(describeStack({ name, by }));
}

function describeStack({ name, by }: { name: string | undefined; by?: string | undefined }): string {
  const stack = name === undefined ? 'every stack' : name === '' ? 'anything outside of stacks' : name;
  return by === undefined ? stack : `${stack} (${by})`;
}

function describePlace({ name }: TouchedStack): string {
  return name || 'this host';
}

/** Returns a refusal if the command does not meet a requirement of the rule. */
function findUnmetRequirement(rule: AllowRule, intent: Intent, input: PolicyInput): Refusal | undefined {
  if (input.readOnly) return undefined;
  if (rule.windows && !rule.windows.some(text => isWindowOpen(text, input.at)))
    return refusals.outsideWindow(rule.windows);
  if (rule.require_verify && !('verify' in intent && intent.verify)) return refusals.verifyRequired(stackOf(intent));
  if (rule.require_plan_digest && input.planDigest === undefined) return refusals.planDigestMissing();
  const { approval, event, isHostRun } = input;
  if (isHostRun) return undefined;
  if (!approval) {
    return rule.without_approval?.some(one => one === event) ? undefined : refusals.approvalMissing(event);
  }
  const wanted = new Set(rule.require_labels ?? []);
  if (intent.label_required !== undefined) wanted.add(intent.label_required);
  for (const label of wanted) {
    const refusal = checkLabel(approval, label);
    if (refusal) return refusal;
  }
  return rule.min_approvals === undefined ? undefined : checkApprovals(approval, rule.min_approvals);
}

/** Returns the refusal of a deny rule, if it is about the intent and one of the stacks. A stack that is not known may be any. */
function findDenial(
  rule: DenyRule,
  name: string,
  intent: Intent,
  stacks: readonly TouchedStack[],
): Refusal | undefined {
  const { service, guests, kind, place } = readIntentSubjects(intent);
  const matches =
    (rule.actions?.includes(intent.action) ?? true) &&
    // An intent without a service is about all services of its stacks.
    (rule.services === undefined ||
      (service === undefined ? stacks.some(one => one.name !== '') : matchesAny(rule.services, service))) &&
    (rule.guests === undefined || guests.some(guest => matchesAny(rule.guests ?? [], guest))) &&
    (rule.kinds === undefined || rule.kinds.some(one => one === kind)) &&
    (rule.destinations === undefined || rule.destinations.some(one => isBelow(one, place)));
  if (!matches) return undefined;
  const { stacks: patterns } = rule;
  if (patterns === undefined) return refusals.denied(name, 'the command');
  const certain = stacks.find(one => one.name !== undefined && matchesStack(patterns, one.name));
  if (certain) return refusals.denied(name, describeStack(certain));
  const possible = stacks.find(one => one.name === undefined);
  if (!possible) return undefined;
  return possible.unresolved === undefined ? refusals.denied(name, describeStack(possible)) : refuseStack(possible);
}

function checkCapabilities(
  capabilities: Capability[] | undefined,
  intent: Intent,
  touched: TouchedStack,
): Refusal | undefined {
  const isGiven = capabilities?.some(
    ({ actions, stacks }) =>
      (actions === undefined || matchesAny(actions, intent.action)) &&
      (stacks === undefined || allowsStack({ stacks }, touched)),
  );
  return isGiven === false ? refusals.capabilityNotAllowed(intent.action, describePlace(touched)) : undefined;
}

/** The subjects of an intent in addition to its stack. */
interface IntentSubjects {
  service?: string | undefined;
  guests: string[];
  kind?: string | undefined;
  place?: string | undefined;
}

function readIntentSubjects(intent: Intent): IntentSubjects {
  const service = 'service' in intent ? intent.service : undefined;
  switch (intent.action) {
    case 'backup':
      if ('vm_id' in intent) return { guests: [String(intent.vm_id)], kind: intent.backup_type, place: intent.storage };
      return {
        guests: [],
        kind: 'database_type' in intent ? intent.database_type : intent.backup_type,
        place: intent.destination,
      };
    case 'restore':
    case 'drill': {
      const { of, from } = intent;
      if (typeof of === 'object' && 'vm_id' in of) {
        const guests = [of.vm_id, ...('to_vm_id' in intent ? [intent.to_vm_id] : [])];
        return { guests: guests.map(String), kind: of.kind, place: from };
      }
      return { guests: [], kind: parseBackupSubject(of).kind, place: from };
    }
    default:
      return { service, guests: [] };
  }
}

function matchesAny(patterns: string[], name: string | undefined): boolean {
  return name !== undefined && patterns.some(pattern => matchesPattern(pattern, name));
}

/** An intent without a stack has an empty name, which only `*` matches. */
function matchesStack(patterns: string[], stack: string): boolean {
  return patterns.some(pattern => matchesPattern(pattern, stack));
}

function isBelow(place: string, named: string | undefined): boolean {
  // A path with ".." is under no folder.
  if (named === undefined || /(^|\/)\.\.?(\/|$)/.test(named)) return false;
  const root = place.replace(/(?<=.)\/+$/, '');
  return matchesPattern(root, named) || matchesPattern(root.endsWith('*') ? root : `${root}/*`, named);
}

function isWindowOpen(text: string, at: Date): boolean {
  const window = parseWindow(text);
  return window !== undefined && isWithin(window, at);
}

/** Returns the name of a rule in the audit log and in `chatops policy`. */
export function ruleNameOf(rule: AllowRule, index: number): string {
  return rule.name ?? `allow.${index + 1}`;
}

/** Returns a refusal if an entry has used up its runs. `countStarted` counts those that started since a time (ISO 8601). */
export function checkRunRate(
  entry: TrustEntry,
  countStarted: (since: string) => number,
  now: Date,
): Refusal | undefined {
  if (!entry.rate) return undefined;
  const { runs, per } = entry.rate;
  const since = new Date(now.getTime() - parseDuration(per)).toISOString();
  return countStarted(since) < runs ? undefined : refusals.runRateReached(entry.name, runs, per);
}
