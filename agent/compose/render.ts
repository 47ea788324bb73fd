import { createHash } from 'node:crypto';
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Failure } from '../plan/failure.ts';
import type { CheckedConfig, ComposeConfig, ComposeRules, RenderedStack, RenderRequest } from '../plan/plan.ts';
import { writeDurably } from '../system/durable-files.ts';
import { checkConfig } from './check-config.ts';
import { homeMark, type Isolation, probeIsolation, runIsolated } from './isolation.ts';
import { listMounts } from './list-mounts.ts';
import { describeRejection } from './rejection.ts';
import { type ResolvedSources, resolveSources } from './resolve.ts';
import { violationFailure } from './violation-failure.ts';

/** A rendered config that was not compared with the host's rules yet. */
export interface RawRendering {
  config: ComposeConfig;
  sources: ResolvedSources;
}

/** Renders, checks and stores a stack's config. Throws {@link Failure} `compose-…`. */
export async function renderStack(
  request: RenderRequest,
  rules: ComposeRules,
  configDir: string | undefined,
): Promise<RenderedStack> {
  const { config, sources } = request.stored
    ? { config: await readStored(request.stored), sources: NO_SOURCES }
    : await renderSources(request, rules.project, configDir);
  checkName(sources, rules);
  const violations = checkConfig(config, rules);
  if (violations.length > 0) throw violationFailure(violations, sources.sources, rules);
  const stored = await storeConfig(request.as, config);
  const variants: Record<string, CheckedConfig> = {};
  for (const [name, { as, project, unpublished }] of Object.entries(request.variants ?? {}))
    variants[name] = await storeConfig(as, renameProject(config, project, unpublished));
  return {
    ...stored,
    project: rules.project,
    config,
    profiles: sources.profiles,
    sources: [...sources.sources.keys()],
    mounts: listMounts(config, rules),
    warnings: sources.warnings,
    variants,
  };
}

const NO_SOURCES: ResolvedSources = {
  copies: new Map(),
  files: [],
  sources: new Map(),
  values: new Map(),
  profiles: [],
  name: undefined,
  warnings: [],
};

/** Reads a config that was kept. Throws {@link Failure} `release-incomplete`. */
async function readStored({ file, sha256 }: CheckedConfig): Promise<ComposeConfig> {
  const text = await readFile(file).catch(() => undefined);
  if (text !== undefined && createHash('sha256').update(text).digest('hex') === sha256)
    return JSON.parse(text.toString('utf8')) as ComposeConfig;
  throw new Failure(
    'release-incomplete',
    `The config ${file} of that release is not kept. Nothing was changed.`,
    'Revert the change in the repository, and roll out the result.',
  );
}

let isolation: Promise<Isolation> | undefined;

/** Renders a stack's sources without a look at the host's rules. Throws {@link Failure} `compose-invalid` and others. */
export async function renderSources(
  request: Pick<RenderRequest, 'dir' | 'compose' | 'overlay'>,
  project: string,
  configDir: string | undefined,
): Promise<RawRendering> {
  isolation ??= probeIsolation();
  const isolated = await isolation;
  const root = await mkdtemp(join(tmpdir(), 'chatops-render-'));
  try {
    const sources = await resolveSources({ ...request, project, root });
    await writeCopies(root, sources, request.dir, isolated === 'user' ? NOBODY : undefined);
    const args = [
      ...['--ansi', 'never', '--project-directory', `${root}${request.dir}`, '--project-name', project],
      ...sources.files.flatMap(file => ['--file', file]),
      ...['--env-file', '/dev/null', '--profile', '*', 'config', '--format', 'json'],
    ];
    const { code, stdout, stderr } = await runIsolated(args, root, configDir, isolated);
    if (code !== 0) throw describeRejection(stderr, root, request.dir);
    return { config: finishConfig(JSON.parse(stdout) as ComposeConfig, root, sources), sources };
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

const NOBODY = 65_534;

async function writeCopies(
  root: string,
  { copies }: ResolvedSources,
  dir: string,
  owner: number | undefined,
): Promise<void> {
  await mkdir(`${root}${dir}`, { recursive: true, mode: 0o700 });
  for (const [path, text] of copies) {
    await mkdir(dirname(`${root}${path}`), { recursive: true, mode: 0o700 });
    await writeFile(`${root}${path}`, text, { mode: 0o600 });
  }
  if (owner === undefined) return;
  for (const path of ['', ...(await readdir(root, { recursive: true }))]) await chown(join(root, path), owner, owner);
}

/** Puts the real paths in place of the copies', and values in place of their names. Compose makes no folder by itself. */
function finishConfig(rendered: ComposeConfig, root: string, { values }: ResolvedSources): ComposeConfig {
  const home = homeMark(root);
  const config = mapTexts(rendered, text => {
    if (text === home || text.startsWith(`${home}/`)) throw unknownHome(text.slice(home.length));
    return text === root ? '/' : text.startsWith(`${root}/`) ? text.slice(root.length) : text;
  }) as MountingConfig;
  for (const [name, secret] of Object.entries(config.secrets ?? {})) {
    const value = values.get(secret?.environment ?? '');
    if (value !== undefined) replaceSecret(config, name, value);
  }
  // A newer compose leaves the key out if it is true.
  for (const service of Object.values(config.services) as MountingService[])
    for (const volume of service.volumes ?? [])
      if (volume.type === 'bind') volume.bind = { ...volume.bind, create_host_path: false };
  return config;
}

function unknownHome(rest: string): Failure {
  return new Failure(
    'compose-invalid',
    `The path "~${rest}" begins in a home folder, and the agent has none.`,
    'Write the whole path in the compose file. Nothing was started.',
  );
}

type MountingConfig = ComposeConfig & {
  configs?: Record<string, ConfigNode>;
  secrets?: Record<string, ConfigNode>;
};

/**
 * Makes a config of a secret that is the value of a variable: compose would read the variable again when it starts the
 * stack, and a config with the same content needs none.
 */
function replaceSecret(config: MountingConfig, name: string, value: { text: string } | { unset: string }): void {
  const source = `secret_${name}`;
  delete config.secrets?.[name];
  if ('text' in value) {
    const content = value.text.replaceAll('$', '$$$$');
    config.configs = { ...config.configs, [source]: { name: `${config.name}_${source}`, content } };
  }
  for (const [service, node] of Object.entries(config.services as Record<string, MountingService>)) {
    // The agent never builds, and compose refuses a build with a secret that is not declared.
    if (node.build?.secrets) node.build.secrets = node.build.secrets.filter(one => one.source !== name);
    const mounts = (node.secrets ?? []).filter(one => one.source === name);
    if (mounts.length === 0) continue;
    if ('unset' in value) {
      throw new Failure(
        'compose-invalid',
        `service ${service}: The secret ${name} is the value of ${value.unset}, which is not set.`,
        `Set ${value.unset} in the stack’s .env. Nothing was started.`,
      );
    }
    node.secrets = (node.secrets ?? []).filter(one => one.source !== name);
    node.configs = [
      ...(node.configs ?? []),
      ...mounts.map(one => ({ ...one, source, target: absoluteTarget(one.target ?? name) })),
    ];
  }
}

interface ConfigNode {
  name?: string;
  content?: string;
  environment?: string;
}

interface SecretMount {
  source: string;
  target?: string;
}

interface MountingService {
  build?: { secrets?: SecretMount[] } | null;
  configs?: SecretMount[];
  secrets?: SecretMount[];
  volumes?: { type: string; bind?: { create_host_path?: boolean } }[];
}

function absoluteTarget(target: string): string {
  return target.startsWith('/') ? target : `/run/secrets/${target}`;
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map(one => mapTexts(one, change));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, mapTexts(one, change)]));
}

/** The files may give the project the name that it has anyway; any other one would take over what is not the stack's. */
function checkName({ name }: ResolvedSources, { project, stack }: ComposeRules): void {
  if (name === undefined || name.text === project) return;
  throw new Failure(
    'compose-not-allowed',
    `${name.at}: The project name "${name.text}" is not "${project}", the one of the stack ${stack}.`,
    `Remove the name, or set project: ${name.text} in the stack’s entry of compose.grants in agent.yaml. Nothing was started.`,
  );
}

/** The same config for another project: what compose names after the project gets the other name. */
function renameProject(config: ComposeConfig, project: string, unpublished: string | undefined): ComposeConfig {
  const renamed = structuredClone(config) as ComposeConfig & Record<string, unknown>;
  renamed.name = project;
  for (const kind of ['networks', 'volumes', 'configs', 'secrets']) {
    for (const [key, one] of Object.entries((renamed[kind] ?? {}) as Record<string, { name?: string } | null>))
      if (one?.name === `${config.name}_${key}`) one.name = `${project}_${key}`;
  }
  const service = unpublished === undefined ? undefined : renamed.services[unpublished];
  if (service) delete service.ports;
  return renamed;
}

/** Stores a config for compose. It holds the values of env files, so only the agent may read it. */
async function storeConfig(file: string, config: ComposeConfig): Promise<CheckedConfig> {
  const text = `${JSON.stringify(config)}\n`;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await writeDurably(file, text);
  return { file, sha256: createHash('sha256').update(text).digest('hex') };
}
