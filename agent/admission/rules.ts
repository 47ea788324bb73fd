import { parseDuration } from '../../intents/duration.ts';
import { type Intent, parseBackupSubject, stackOf } from '../../intents/intent.ts';
import type { Approval } from '../../protocol/command.ts';
import { checkApprovals, checkLabel } from '../../protocol/labels.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import { isWithin, parseWindow } from '../config/time-windows.ts';
import { type AllowRule, type DenyRule, matchesPattern, type TrustEntry } from '../config/trust.ts';
import type { Capability } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';

/** What a policy is asked about, beside the intent. */
export interface PolicyInput {
  /** GitHub's event: `push`. */
  event: string;
  approval: Approval | null;
  /** A plan or a dry run: it changes nothing, so that only the scope of rules counts. */
  looksOnly: boolean;
  /** The host's own: nobody sends it, so nobody approves it. */
  isOwn?: boolean | undefined;
  planDigest?: string | undefined;
  at: Date;
  /** What the tailnet lets the peer do; absent where the entry does not ask. It only narrows. */
  capabilities?: Capability[] | undefined;
}

/** What one rule says to an intent. `refusal` absent: it allows (or, of a deny rule, has nothing against it). */
export interface RuleFinding {
  rule: string;
  refusal?: Refusal | undefined;
}

/** The answer of an entry to one intent: by which rule, or why not; and what each rule said. */
export interface PolicyDecision {
  rule?: string | undefined;
  refusal?: Refusal | undefined;
  findings: RuleFinding[];
}

/** Judges one intent by one trust entry. Nothing is allowed that no rule allows; a deny rule overrides every other. */
export function evaluateRules(intent: Intent, facts: PolicyInput, entry: TrustEntry): PolicyDecision {
  const denying = (entry.deny ?? []).map((rule, index) => {
    const name = rule.name ?? `deny.${index + 1}`;
    return denies(rule, intent) ? { rule: name, refusal: refusals.denied(name) } : { rule: name };
  });
  const allowing = entry.allow.map((rule, index) => {
    const refusal = findScopeMismatch(rule, intent) ?? findUnmetRequirement(rule, intent, facts);
    return { rule: ruleNameOf(rule, index), ...(refusal ? { refusal } : {}) };
  });
  const findings = [...denying, ...allowing];
  const denied = denying.find(({ refusal }) => refusal);
  if (denied?.refusal) return { refusal: denied.refusal, findings };
  const narrowed = checkCapabilities(facts.capabilities, intent);
  if (narrowed) return { refusal: narrowed, findings };
  const allowed = allowing.find(({ refusal }) => !refusal);
  if (allowed) return { rule: allowed.rule, findings };
  return { refusal: findClosestRefusal(intent, facts, entry), findings };
}

/** The refusal that helps most: of a rule whose scope fits, else what of the scope no rule has. */
function findClosestRefusal(intent: Intent, facts: PolicyInput, { allow }: TrustEntry): Refusal {
  const [fitting] = allow.filter(rule => !findScopeMismatch(rule, intent));
  const unmetHere = fitting && findUnmetRequirement(fitting, intent, facts);
  if (unmetHere) return unmetHere;
  const stack = stackOf(intent);
  const forAction = allow.filter(rule => rule.actions.includes(intent.action));
  if (forAction.length === 0) return refusals.actionNotAllowed(intent.action, stack || 'this host');
  const forStack = allow.filter(rule => matchesStack(rule.stacks, stack));
  if (forStack.length === 0) return refusals.stackNotAllowed(stack || 'what is not a stack');
  const [both] = forStack.filter(rule => forAction.includes(rule));
  return (both && findScopeMismatch(both, intent)) ?? refusals.actionNotAllowed(intent.action, stack || 'this host');
}

/** Why the rule is not about this intent. */
function findScopeMismatch(rule: AllowRule, intent: Intent): Refusal | undefined {
  const stack = stackOf(intent);
  if (!rule.actions.includes(intent.action)) return refusals.actionNotAllowed(intent.action, stack || 'this host');
  if (!matchesStack(rule.stacks, stack)) return refusals.stackNotAllowed(stack || 'what is not a stack');
  const { service, guests, kind, place } = readIntentSubjects(intent);
  if (rule.services && !matchesAny(rule.services, service)) return refusals.actionNotAllowed(intent.action, stack);
  const other = guests.find(guest => rule.guests && !matchesAny(rule.guests, guest));
  if (rule.guests && (other !== undefined || guests.length === 0)) return refusals.guestNotAllowed(other ?? 'none');
  if (rule.kinds && !rule.kinds.some(one => one === kind)) return refusals.kindNotAllowed(kind ?? intent.action);
  if (rule.destinations && !rule.destinations.some(one => isBelow(one, place)))
    return refusals.placeNotAllowed(place ?? 'none');
  return undefined;
}

/** What the rule wants of the command beside its scope, and does not find. */
function findUnmetRequirement(rule: AllowRule, intent: Intent, facts: PolicyInput): Refusal | undefined {
  if (facts.looksOnly) return undefined;
  if (rule.windows && !rule.windows.some(text => isWindowOpen(text, facts.at)))
    return refusals.outsideWindow(rule.windows);
  if (rule.require_verify && !('verify' in intent && intent.verify)) return refusals.verifyRequired(stackOf(intent));
  if (rule.require_plan_digest && facts.planDigest === undefined) return refusals.planDigestMissing();
  const { approval, event, isOwn } = facts;
  if (isOwn) return undefined;
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

function denies(rule: DenyRule, intent: Intent): boolean {
  const { service, guests, kind, place } = readIntentSubjects(intent);
  return (
    (rule.actions?.includes(intent.action) ?? true) &&
    (rule.stacks === undefined || matchesStack(rule.stacks, stackOf(intent))) &&
    // An intent that names no service is about all of them.
    (rule.services === undefined || (service === undefined ? 'stack' in intent : matchesAny(rule.services, service))) &&
    (rule.guests === undefined || guests.some(guest => matchesAny(rule.guests ?? [], guest))) &&
    (rule.kinds === undefined || rule.kinds.some(one => one === kind)) &&
    (rule.destinations === undefined || rule.destinations.some(one => isBelow(one, place)))
  );
}

function checkCapabilities(capabilities: Capability[] | undefined, intent: Intent): Refusal | undefined {
  const stack = stackOf(intent);
  const isGiven = capabilities?.some(
    ({ actions, stacks }) =>
      (actions === undefined || matchesAny(actions, intent.action)) &&
      (stacks === undefined || matchesStack(stacks, stack)),
  );
  return isGiven === false ? refusals.capabilityNotAllowed(intent.action, stack || 'this host') : undefined;
}

/** What an intent names beside its stack. */
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

/** What belongs to no stack has an empty name: only `*` takes it in. */
function matchesStack(patterns: string[], stack: string): boolean {
  return patterns.some(pattern => matchesPattern(pattern, stack));
}

function isBelow(place: string, named: string | undefined): boolean {
  // A path that climbs is below nothing.
  if (named === undefined || /(^|\/)\.\.?(\/|$)/.test(named)) return false;
  const root = place.replace(/(?<=.)\/+$/, '');
  return matchesPattern(root, named) || matchesPattern(root.endsWith('*') ? root : `${root}/*`, named);
}

function isWindowOpen(text: string, at: Date): boolean {
  const window = parseWindow(text);
  return window !== undefined && isWithin(window, at);
}

/** A rule as the audit and `chatops policy` call it. */
export function ruleNameOf(rule: AllowRule, index: number): string {
  return rule.name ?? `allow.${index + 1}`;
}

/** Whether an entry has had as many runs as it may. `begun`: how many have begun since a time (ISO 8601). */
export function checkRunRate(entry: TrustEntry, begun: (since: string) => number, now: Date): Refusal | undefined {
  if (!entry.rate) return undefined;
  const { runs, per } = entry.rate;
  const since = new Date(now.getTime() - parseDuration(per)).toISOString();
  return begun(since) < runs ? undefined : refusals.runRateReached(entry.name, runs, per);
}
