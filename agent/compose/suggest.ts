import { stringify } from 'yaml';
import {
  type ComposeList,
  type ComposeRules,
  GRANT_RISKS,
  LIST_RISKS,
  type Opening,
  type Violation,
} from '../plan/compose-config.ts';
import { checkConfig } from './check-config.ts';

/** An exception that a config needs, its risk, and the parts of the config that need it. */
interface Suggestion {
  opening: Opening;
  risk: string;
  reasons: string[];
}

/** The exceptions of compose.grants that a rendered config needs, and the parts of it that no exception allows. */
export interface Suggestions {
  needed: Suggestion[];
  blocked: Violation[];
}

/** Finds the narrowest exceptions with which a rendered config keeps the rules. */
export function suggest(config: unknown, rules: ComposeRules): Suggestions {
  const needed = new Map<string, Suggestion>();
  let current = rules;
  // One exception can show what the next part needs, so this repeats until nothing is added.
  for (let before = -1; before < needed.size; ) {
    before = needed.size;
    for (const { opens, message } of checkConfig(config, current)) {
      const [opening] = opens;
      if (!opening) continue;
      const key = JSON.stringify(opening);
      const known = needed.get(key);
      if (known) known.reasons.push(message);
      else needed.set(key, { opening, risk: riskOf(opening), reasons: [message] });
    }
    current = applyOpenings(rules, openingsOf(needed));
  }
  const blocked = checkConfig(config, current);
  for (const key of [...needed.keys()].sort((a, b) => b.length - a.length)) {
    const others = new Map([...needed].filter(([one]) => one !== key));
    if (checkConfig(config, applyOpenings(rules, openingsOf(others))).length > blocked.length) continue;
    needed.delete(key);
  }
  return { needed: [...needed.values()], blocked };
}

/** Returns the rules as they are once these exceptions are in agent.yaml. */
export function applyOpenings(rules: ComposeRules, openings: Opening[]): ComposeRules {
  const values = (list: ComposeList) =>
    openings.flatMap(one => ('list' in one && one.list === list ? [one.value] : []));
  const binds = values('binds');
  return {
    ...rules,
    project: values('project')[0] ?? rules.project,
    grants: [...rules.grants, ...openings.flatMap(one => ('grant' in one ? [one.grant] : []))],
    binds: [...rules.binds, ...binds.filter(path => !path.endsWith(':ro'))],
    readOnlyBinds: [
      ...rules.readOnlyBinds,
      ...binds.filter(path => path.endsWith(':ro')).map(path => path.slice(0, -':ro'.length)),
    ],
    ports: [
      ...rules.ports,
      ...values('ports').map((range): [number, number] => {
        const [lowest = 0, highest = lowest] = range.split('-').map(Number);
        return [lowest, highest];
      }),
    ],
    devices: [...rules.devices, ...values('devices')],
    capabilities: [...rules.capabilities, ...values('capabilities')],
    containers: [...rules.containers, ...values('containers')],
    volumes: [...rules.volumes, ...values('volumes')],
    networks: [...rules.networks, ...values('networks')],
  };
}

/** Returns the text for agent.yaml: each exception with its risk and its reasons as comments, and warnings about the stack. */
export function formatSuggestions(stack: string, { needed, blocked }: Suggestions, warnings: string[] = []): string {
  const lines = [
    ...warnings.map(text => `# Warning: ${onOneLine(text)}`),
    ...blocked.map(({ message }) => `# Nothing allows this. ${message}.`),
  ];
  if (needed.length === 0)
    return [...lines, ...(blocked.length === 0 ? [`# The stack "${stack}" needs no exception.`] : [])].join('\n');
  lines.push('compose:', '  grants:', `    - stack: ${plain(stack)}`);
  const comments = ({ risk, reasons }: Suggestion, indent: string) =>
    [risk, ...reasons].map(text => `${indent}# ${text}`);
  const fields: ('allow' | ComposeList)[] = ['allow', ...(Object.keys(LIST_RISKS) as ComposeList[])];
  for (const field of fields) {
    const found = needed.filter(({ opening }) => ('grant' in opening ? 'allow' : opening.list) === field);
    if (found.length === 0) continue;
    if (field !== 'project') lines.push(`      ${field}:`);
    for (const one of found) {
      const value = plain('grant' in one.opening ? one.opening.grant : one.opening.value, field);
      lines.push(
        ...(field === 'project'
          ? [...comments(one, '      '), `      project: ${value}`]
          : [...comments(one, '        '), `        - ${value}`]),
      );
    }
  }
  return lines.join('\n');
}

function openingsOf(needed: Map<string, Suggestion>): Opening[] {
  return [...needed.values()].map(({ opening }) => opening);
}

function riskOf(opening: Opening): string {
  if ('grant' in opening) return GRANT_RISKS[opening.grant];
  if (opening.list !== 'binds') return LIST_RISKS[opening.list];
  return opening.value.endsWith(':ro') ? 'Containers only read it.' : 'Containers read it and write it.';
}

/** A file's name can have any letters, and a comment ends with its line. */
function onOneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ');
}

/** Returns a value as YAML. Ports may be numbers. */
function plain(value: string, field?: string): string {
  return field === 'ports' ? value : stringify(value, { lineWidth: 0, version: '1.2' }).trim();
}
