import { parseDuration } from '../../intents/duration.ts';
import { type Intent, stackOf, subjectOf } from '../../intents/intent.ts';
import type { Approval } from '../../protocol/command.ts';
import { judgeApprovals, judgeLabel } from '../../protocol/labels.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import { isWithin, parseWindow } from '../config/time-windows.ts';
import { type AllowRule, type DenyRule, matches, type TrustEntry } from '../config/trust.ts';
import type { Capability } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';

/** What a policy is asked about, beside the intent. */
export interface Facts {
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
export interface Finding {
  rule: string;
  refusal?: Refusal | undefined;
}

/** The answer of an entry to one intent: by which rule, or why not; and what each rule said. */
export interface Judgement {
  rule?: string | undefined;
  refusal?: Refusal | undefined;
  findings: Finding[];
}

/** Judges one intent by one trust entry. Nothing is allowed that no rule allows; a deny rule overrides every other. */
export function judge(intent: Intent, facts: Facts, entry: TrustEntry): Judgement {
  const denying = (entry.deny ?? []).map((rule, index) => {
    const name = rule.name ?? `deny.${index + 1}`;
    return denies(rule, intent) ? { rule: name, refusal: refusals.denied(name) } : { rule: name };
  });
  const allowing = entry.allow.map((rule, index) => {
    const refusal = outside(rule, intent) ?? unmet(rule, intent, facts);
    return { rule: nameOf(rule, index), ...(refusal ? { refusal } : {}) };
  });
  const findings = [...denying, ...allowing];
  const denied = denying.find(({ refusal }) => refusal);
  if (denied?.refusal) return { refusal: denied.refusal, findings };
  const narrowed = narrowedBy(facts.capabilities, intent);
  if (narrowed) return { refusal: narrowed, findings };
  const allowed = allowing.find(({ refusal }) => !refusal);
  if (allowed) return { rule: allowed.rule, findings };
  return { refusal: nearest(intent, facts, entry), findings };
}

/** The refusal that helps most: of a rule whose scope fits, else what of the scope no rule has. */
function nearest(intent: Intent, facts: Facts, { allow }: TrustEntry): Refusal {
  const [fitting] = allow.filter(rule => !outside(rule, intent));
  const unmetHere = fitting && unmet(fitting, intent, facts);
  if (unmetHere) return unmetHere;
  const stack = stackOf(intent);
  const forAction = allow.filter(rule => rule.actions.includes(intent.action));
  if (forAction.length === 0) return refusals.actionNotAllowed(intent.action, stack || 'this host');
  const forStack = allow.filter(rule => fitsStack(rule.stacks, stack));
  if (forStack.length === 0) return refusals.stackNotAllowed(stack || 'what is not a stack');
  const [both] = forStack.filter(rule => forAction.includes(rule));
  return (both && outside(both, intent)) ?? refusals.actionNotAllowed(intent.action, stack || 'this host');
}

/** Why the rule is not about this intent. */
function outside(rule: AllowRule, intent: Intent): Refusal | undefined {
  const stack = stackOf(intent);
  if (!rule.actions.includes(intent.action)) return refusals.actionNotAllowed(intent.action, stack || 'this host');
  if (!fitsStack(rule.stacks, stack)) return refusals.stackNotAllowed(stack || 'what is not a stack');
  const { service, guests, kind, place } = subjectsOf(intent);
  if (rule.services && !fits(rule.services, service)) return refusals.actionNotAllowed(intent.action, stack);
  const other = guests.find(guest => rule.guests && !fits(rule.guests, guest));
  if (rule.guests && (other !== undefined || guests.length === 0)) return refusals.guestNotAllowed(other ?? 'none');
  if (rule.kinds && !rule.kinds.some(one => one === kind)) return refusals.kindNotAllowed(kind ?? intent.action);
  if (rule.destinations && !rule.destinations.some(one => isBelow(one, place)))
    return refusals.placeNotAllowed(place ?? 'none');
  return undefined;
}

/** What the rule wants of the command beside its scope, and does not find. */
function unmet(rule: AllowRule, intent: Intent, facts: Facts): Refusal | undefined {
  if (facts.looksOnly) return undefined;
  if (rule.windows && !rule.windows.some(text => isOpen(text, facts.at))) return refusals.outsideWindow(rule.windows);
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
    const refusal = judgeLabel(approval, label);
    if (refusal) return refusal;
  }
  return rule.min_approvals === undefined ? undefined : judgeApprovals(approval, rule.min_approvals);
}

function denies(rule: DenyRule, intent: Intent): boolean {
  const { service, guests, kind, place } = subjectsOf(intent);
  return (
    (rule.actions?.includes(intent.action) ?? true) &&
    (rule.stacks === undefined || fitsStack(rule.stacks, stackOf(intent))) &&
    // An intent that names no service is about all of them.
    (rule.services === undefined || (service === undefined ? 'stack' in intent : fits(rule.services, service))) &&
    (rule.guests === undefined || guests.some(guest => fits(rule.guests ?? [], guest))) &&
    (rule.kinds === undefined || rule.kinds.some(one => one === kind)) &&
    (rule.destinations === undefined || rule.destinations.some(one => isBelow(one, place)))
  );
}

function narrowedBy(capabilities: Capability[] | undefined, intent: Intent): Refusal | undefined {
  const stack = stackOf(intent);
  const isGiven = capabilities?.some(
    ({ actions, stacks }) =>
      (actions === undefined || fits(actions, intent.action)) && (stacks === undefined || fitsStack(stacks, stack)),
  );
  return isGiven === false ? refusals.capabilityNotAllowed(intent.action, stack || 'this host') : undefined;
}

/** What an intent names beside its stack. */
interface Subjects {
  service?: string | undefined;
  guests: string[];
  kind?: string | undefined;
  place?: string | undefined;
}

function subjectsOf(intent: Intent): Subjects {
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
      return { guests: [], kind: subjectOf(of).kind, place: from };
    }
    default:
      return { service, guests: [] };
  }
}

function fits(patterns: string[], name: string | undefined): boolean {
  return name !== undefined && patterns.some(pattern => matches(pattern, name));
}

/** What belongs to no stack has an empty name: only `*` takes it in. */
function fitsStack(patterns: string[], stack: string): boolean {
  return patterns.some(pattern => matches(pattern, stack));
}

function isBelow(place: string, named: string | undefined): boolean {
  // A path that climbs is below nothing.
  if (named === undefined || /(^|\/)\.\.?(\/|$)/.test(named)) return false;
  const root = place.replace(/(?<=.)\/+$/, '');
  return matches(root, named) || matches(root.endsWith('*') ? root : `${root}/*`, named);
}

function isOpen(text: string, at: Date): boolean {
  const window = parseWindow(text);
  return window !== undefined && isWithin(window, at);
}

/** A rule as the audit and `chatops policy` call it. */
export function nameOf(rule: AllowRule, index: number): string {
  return rule.name ?? `allow.${index + 1}`;
}

/** Whether an entry has had as many runs as it may. `begun`: how many have begun since a time (ISO 8601). */
export function overRate(entry: TrustEntry, begun: (since: string) => number, now: Date): Refusal | undefined {
  if (!entry.rate) return undefined;
  const { runs, per } = entry.rate;
  const since = new Date(now.getTime() - parseDuration(per)).toISOString();
  return begun(since) < runs ? undefined : refusals.runRateReached(entry.name, runs, per);
}
