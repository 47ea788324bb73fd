import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { COMPOSE_GRANTS, type ComposeGrant, type ComposeRules, projectName } from '../plan/compose-config.ts';
import { isUnder } from '../plan/paths.ts';
import { secretPath } from '../system/secret-file.ts';
import { Absolute } from './backups.ts';
import type { Inconsistency } from './consistency.ts';
import { matchesPattern, NamePattern } from './trust.ts';

const Name = z
  .string()
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/, 'Expected a name of the engine: letters, digits, "_", "." and "-"');
const Ports = z.union([
  z.int().min(1).max(65_535),
  z.string().regex(/^\d{1,5}(-\d{1,5})?$/, 'Expected a port, or a range such as "8000-8010"'),
]);

const Exception = z
  .strictObject({
    stack: NamePattern,
    allow: z
      .array(z.enum(COMPOSE_GRANTS))
      .default([])
      .describe('Exceptions from the rules for its compose file, whatever the value.'),
    binds: z
      .array(Absolute)
      .default([])
      .describe('Paths of the host that it may bind, with all below. A path that ends in ":ro" only read-only.'),
    devices: z
      .array(
        z
          .string()
          .regex(/^(\/dev(\/[\w.:@+-]+)*|[\w.-]+\/[\w.-]+=[\w.:-]+)$/, 'Expected a path below /dev or a CDI name'),
      )
      .default([])
      .describe('Devices that its containers may use: paths below /dev, or CDI names.'),
    capabilities: z
      .array(z.string().regex(/^(?!ALL$)[A-Z_]{2,40}$/, 'Expected the name of a capability such as NET_ADMIN'))
      .default([])
      .describe('Capabilities that its containers may have, in addition to the engine’s defaults.'),
    containers: z
      .array(Name)
      .default([])
      .describe(
        'Containers that it may join by name ("network_mode: container:NAME"), whichever stack they belong to.',
      ),
    volumes: z.array(Name).default([]).describe('Volumes that it may use although they are not of its project.'),
    networks: z.array(Name).default([]).describe('Networks that it may use although they are not of its project.'),
    ports: z.array(Ports).default([]).describe('Ports that it may publish in addition to compose.ports.'),
    project: z
      .string()
      .regex(/^[a-z0-9][a-z0-9_-]{0,100}$/, 'Expected a project’s name: a-z, 0-9, "_" and "-"')
      .optional()
      .describe('The name of its compose project, if its file names another one than its folder.'),
  })
  .refine(({ stack: _, ...rest }) => Object.values(rest).some(value => value !== undefined && value.length > 0), {
    error: 'Expected at least one exception next to "stack"',
  });

/** `compose` in agent.yaml: the limits of compose files. */
export const ComposeLimits = z
  .strictObject({
    binds: z
      .array(Absolute)
      .default([])
      .describe('Folders that any stack may bind in addition to its own. A path that ends in ":ro" only read-only.'),
    ports: z
      .string()
      .regex(/^\d{1,5}-\d{1,5}$/, 'Expected a range such as "1024-65535"')
      .default('1-65535')
      .describe('Ports of this host that stacks may publish.'),
    grants: z
      .array(Exception)
      .default([])
      .describe('Exceptions for stacks. "chatops policy suggest STACK" prints those that a stack needs.'),
  })
  .default({ binds: [], ports: '1-65535', grants: [] })
  .describe('Rules for compose files. The agent checks the rendered file before it starts anything.');
type ComposeLimits = z.infer<typeof ComposeLimits>;

/** The parts of agent.yaml that limit compose files. */
interface Limited {
  listen: string;
  compose: ComposeLimits;
  stacks: { root: string };
  docker: { socket: string; config_dir?: string | undefined };
  state_dir: string;
  intents_dir: string;
}

/** Returns the limits of one stack's compose file. */
export function composeRulesOf(config: Limited, stack: string): ComposeRules {
  const { compose, stacks, docker } = config;
  const exceptions = compose.grants.filter(grant => matchesPattern(grant.stack, stack));
  const collect = <T>(pick: (exception: (typeof exceptions)[number]) => T[]): T[] => [
    ...new Set(exceptions.flatMap(pick)),
  ];
  const binds = [...compose.binds, ...collect(one => one.binds)];
  return {
    stack,
    project: projectOf(compose, stack),
    others: listFolders(stacks.root)
      .filter(folder => folder !== stack)
      .map(folder => projectOf(compose, folder)),
    dir: join(stacks.root, stack),
    grants: collect<ComposeGrant>(({ allow }) => allow),
    binds: binds.filter(path => !path.endsWith(':ro')),
    readOnlyBinds: binds.filter(path => path.endsWith(':ro')).map(path => path.slice(0, -':ro'.length)),
    ports: [compose.ports, ...collect(one => one.ports)].map(range => {
      const [lowest = 0, highest = lowest] = String(range).split('-').map(Number);
      return [lowest, highest];
    }),
    agentPorts: [Number(config.listen.split(':').at(-1))],
    hostNetworks: listHostNetworks(),
    socket: docker.socket,
    agent: listAgentPaths(config),
    devices: collect(one => one.devices),
    capabilities: collect(one => one.capabilities),
    containers: collect(one => one.containers),
    volumes: collect(one => one.volumes),
    networks: collect(one => one.networks),
  };
}

/** Finds exceptions that contradict each other, or that no stack may have. */
export function findComposeInconsistencies(config: Limited): Inconsistency[] {
  const { binds, grants } = config.compose;
  const own = listAgentPaths(config);
  const agentFolder = (path: string) => own.find(one => isUnder(path.replace(/:ro$/, ''), one));
  const ofBinds = (paths: string[], at: (string | number)[]): Inconsistency[] =>
    paths.flatMap((path, index) => {
      const folder = agentFolder(path);
      return folder === undefined
        ? []
        : [{ path: [...at, index], message: `Expected another folder: ${folder} belongs to the agent` }];
    });
  return [
    ...ofBinds(binds, ['compose', 'binds']),
    ...grants.flatMap(({ stack, project, binds: paths }, index): Inconsistency[] => {
      const at = ['compose', 'grants', index];
      const twin = grants.find(
        (other, place) =>
          project !== undefined &&
          place !== index &&
          other.stack !== stack &&
          (other.project ?? projectName(other.stack)) === project,
      );
      return [
        ...ofBinds(paths, [...at, 'binds']),
        ...(project !== undefined && stack.includes('*')
          ? [{ path: [...at, 'project'], message: 'Expected one stack without "*": a project belongs to one stack' }]
          : []),
        ...(twin
          ? [{ path: [...at, 'project'], message: `Expected another name: "${twin.stack}" has this project too` }]
          : []),
      ];
    }),
  ];
}

function projectOf({ grants }: ComposeLimits, stack: string): string {
  return grants.find(one => one.stack === stack && one.project !== undefined)?.project ?? projectName(stack);
}

function listFolders(root: string): string[] {
  try {
    return readdirSync(root, { withFileTypes: true })
      .filter(entry => !entry.isFile() && !entry.name.startsWith('.'))
      .map(({ name }) => name);
  } catch {
    return []; // The root is created with the first stack.
  }
}

/** Names of the bridges that the engine makes, and of the ends of containers' networks. */
const ENGINE_INTERFACE = /^(lo|docker\d+|docker_gwbridge|br-[0-9a-f]{12}|veth.*)$/;

/** Lists the networks that the host is in, with its address there. A bridge over one of them would cut the host off. */
function listHostNetworks(): string[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    ENGINE_INTERFACE.test(name) ? [] : addresses.flatMap(({ cidr }) => cidr ?? []),
  );
}

/** Lists the folders and files by which the agent is controlled, or which hold its secrets. */
function listAgentPaths(config: Limited): string[] {
  const files: string[] = [];
  const collect = (value: unknown) => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, one] of Object.entries(value)) {
      if (!/(token|password|hmac|path|url)_file$/.test(key) || typeof one !== 'string') collect(one);
      else files.push(secretPath(one));
    }
  };
  collect(config);
  const { state_dir, intents_dir, docker } = config;
  return [
    ...new Set(['/etc/chatops', state_dir, intents_dir, ...(docker.config_dir ? [docker.config_dir] : []), ...files]),
  ];
}
