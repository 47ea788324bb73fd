import type { ComposeGrant, ComposeRules, Opening, Violation } from '../../plan/compose-config.ts';

export type ComposeNode = Record<string, unknown>;

/** A place in a rendered config while it is checked. */
export interface Place {
  path: string[];
  rules: ComposeRules;
  /** The whole config. */
  config: ComposeNode;
  /** Collects the violations. */
  found: Violation[];
}

/** The rule of one key: its harmless values, and what opens others. */
export interface KeyRule {
  /** The text of docs/compose-keys.md: what the key needs. */
  needs: string;
  check(value: unknown, at: Place): void;
  /** Rules of an object's keys; an object has no other. */
  keys?: Record<string, KeyRule>;
  /** The rule of each element of a list, or of each value of a map. */
  each?: KeyRule;
  isMap?: boolean;
}

const NOTHING = 'nothing';

const KINDS: Record<string, string> = {
  services: 'service',
  volumes: 'volume',
  networks: 'network',
  configs: 'config',
  secrets: 'secret',
};

/** Adds a violation at a place. `reason` continues `service web: key "x"`, and shows no value that can be a secret. */
export function refuse({ path, found }: Place, reason: string, opens: Opening[] = []): void {
  const [room = '', name, ...rest] = path;
  const kind = KINDS[room];
  const [owner, keys] =
    kind !== undefined && name !== undefined ? [`${kind} ${printable(name)}`, rest] : ['compose file', path];
  const key = keys.length === 0 ? '' : ` key "${printable(keys.join('.'))}"`;
  found.push({ path, message: `${owner}:${key}${reason}`, opens });
}

export function below(at: Place, key: string | number): Place {
  return { ...at, path: [...at.path, String(key)] };
}

/** Returns a short text for a message: names come from the file and may have any letters. */
export function printable(value: unknown): string {
  const text = JSON.stringify(String(value)).slice(1, -1);
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

export function isNode(value: unknown): value is ComposeNode {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value with a test of its form. No grant opens another form. */
export function form(expected: string, test: (value: unknown) => boolean, needs: string = NOTHING): KeyRule {
  return {
    needs,
    check: (value, at) => {
      if (!test(value)) refuse(at, ` has a value that this agent does not know. Expected ${expected}`);
    },
  };
}

export const flag = form('true or false', value => typeof value === 'boolean');
export const text = form('a text', value => typeof value === 'string');
export const textOrNull = form('a text or nothing', value => value === null || typeof value === 'string');
/** A count, a size or a share: compose renders some as numbers and some as texts. */
export const amount = form(
  'a number or a size',
  value => Number.isFinite(value) || (typeof value === 'string' && /^-?[0-9.]{1,30}[a-zA-Z]{0,2}$/.test(value)),
);
export const duration = form(
  'a duration',
  value => typeof value === 'string' && /^([0-9.]{1,20}(ns|us|µs|ms|s|m|h))+$/.test(value),
);

export function oneOf(...values: string[]): KeyRule {
  return form(`one of ${values.map(value => value || '""').join(', ')}`, value => values.includes(value as string));
}

export function matching(pattern: RegExp, expected: string): KeyRule {
  return form(expected, value => typeof value === 'string' && pattern.test(value));
}

export function list(each: KeyRule): KeyRule {
  return {
    needs: each.needs,
    each,
    check: (value, at) => {
      if (Array.isArray(value)) for (const [index, one] of value.entries()) each.check(one, below(at, index));
      else refuse(at, ' is not a list');
    },
  };
}

/** A map whose keys are names. */
export function map(each: KeyRule, { names = /^/ }: { names?: RegExp } = {}): KeyRule {
  return {
    needs: each.needs,
    each,
    isMap: true,
    check: (value, at) => {
      if (!isNode(value)) return refuse(at, ' is not a map');
      for (const [name, one] of Object.entries(value)) {
        if (names.test(name)) each.check(one, below(at, name));
        else refuse(below(at, name), ' has a name with other letters than a-z, A-Z, 0-9, ".", "_" and "-"');
      }
    },
  };
}

/** An object with these keys and no others. `also` checks several keys against each other. */
export function object(keys: Record<string, KeyRule>, also?: (node: ComposeNode, at: Place) => void): KeyRule {
  return {
    needs: NOTHING,
    keys,
    check: (value, at) => {
      if (!isNode(value)) return refuse(at, ' is not a map');
      for (const [key, one] of Object.entries(value)) {
        const rule = Object.hasOwn(keys, key) ? keys[key] : undefined;
        if (rule) rule.check(one, below(at, key));
        else refuse(below(at, key), ' is unknown to this agent. Remove it');
      }
      also?.(value, at);
    },
  };
}

export function orNull(rule: KeyRule): KeyRule {
  return {
    ...rule,
    check: (value, at) => {
      if (value !== null) rule.check(value, at);
    },
  };
}

/** A key that nothing allows. `instead` is an order to whoever writes the file. */
export function never(reason: string, instead = 'Remove it'): KeyRule {
  return { needs: `never: ${reason}`, check: (_, at) => refuse(at, ` is not allowed: ${reason}. ${instead}`) };
}

/** A key that needs a grant, unless `harmless` is true of its value. With the grant, `rule` applies. */
export function granted(
  grant: ComposeGrant,
  rule: KeyRule,
  {
    harmless = value => value === false || (Array.isArray(value) && value.length === 0),
    reason = '',
    needs = `\`${grant}\``,
  }: { harmless?: (value: unknown) => boolean; reason?: string; needs?: string } = {},
): KeyRule {
  return {
    ...rule,
    needs,
    check: (value, at) => {
      if (!harmless(value) && !at.rules.grants.includes(grant)) refuse(at, reason, [{ grant }]);
      else rule.check(value, at);
    },
  };
}

/** A rule of its own, for docs/compose-keys.md with `needs`. */
export function custom(needs: string, check: KeyRule['check']): KeyRule {
  return { needs, check };
}

/** The same rule with another text in docs/compose-keys.md. */
export function documented(needs: string, rule: KeyRule): KeyRule {
  return { ...rule, needs };
}
