import type { AgentAddress } from '../client/deliver.ts';
import { parseHosts } from '../intents/hosts.ts';
import type { LoadedIntent } from '../intents/load.ts';
import { suggestNearest } from '../intents/suggest.ts';
import { KeyError, readPublicKey } from '../protocol/keys.ts';
import { actionRefusals } from './refusals.ts';

/** Reads the file of the input "hosts-file". Throws `Refused` `input-invalid`. */
export function readHosts(path: string, text: string): Map<string, AgentAddress> {
  const hosts = parseHosts(text);
  const invalid = (why: string) =>
    actionRefusals.inputInvalid(
      'hosts-file',
      `${path}: ${why}`,
      'Write a mapping of hosts: "edge-1: {agent: ws://edge-1:8000, key: ed25519:…, tags: [edge]}".',
    );
  if ('problem' in hosts) throw invalid(hosts.problem);
  return new Map(
    [...hosts.hosts].map(([host, { agent, key, tags = [] }]) => {
      try {
        return [host, { url: agent.replace(/\/$/, ''), key: readPublicKey(key), tags }];
      } catch (error) {
        if (!(error instanceof KeyError)) throw error;
        throw invalid(`${host}: ${error.message}`);
      }
    }),
  );
}

/** The hosts of a document by name, in waves. Documents with the same key may travel together. */
export interface TargetHosts {
  key: string;
  waves: string[][];
}

/** Returns the hosts that a document names. Throws `Refused` `host-unknown`. */
export function targetHostsOf({ intent }: LoadedIntent, agents: Map<string, AgentAddress>): TargetHosts {
  const known = [...agents.keys()].filter(Boolean);
  if (intent.hosts === undefined) {
    const host = intent.host ?? (agents.has('') ? '' : (known[0] ?? ''));
    if (!agents.has(host) || (intent.host === undefined && agents.size > 1 && !agents.has('')))
      throw actionRefusals.intentForUnknownHost(intent.host, known);
    return { key: host, waves: [[host]] };
  }
  const wanted = [intent.hosts].flat();
  const chosen = new Set(
    wanted.flatMap(one => {
      const tag = /^tag:(.+)$/.exec(one)?.[1];
      const found = known.filter(host => (tag === undefined ? host === one : agents.get(host)?.tags?.includes(tag)));
      if (found.length > 0) return found;
      const tags = known.flatMap(host => agents.get(host)?.tags?.map(name => `tag:${name}`) ?? []);
      const near = suggestNearest(one, [...known, ...tags]);
      throw actionRefusals.intentForUnknownHost(one, near === undefined ? known : [near]);
    }),
  );
  const { canary = 0, max_unavailable: limit = 1 } = intent;
  return { key: JSON.stringify([intent.hosts, canary, limit]), waves: wavesOf([...chosen], canary, limit) };
}

/** Splits hosts into waves: the `canary` first ones, then as many as may be unavailable. A share is rounded down to at least one. */
export function wavesOf(hosts: string[], canary: number, limit: number | string): string[][] {
  const size =
    typeof limit === 'number' ? limit : Math.max(1, Math.floor((hosts.length * Number.parseInt(limit, 10)) / 100));
  const waves = canary > 0 ? [hosts.slice(0, canary)] : [];
  for (let at = canary; at < hosts.length; at += size) waves.push(hosts.slice(at, at + size));
  return waves;
}
