import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { CheckedConfig, ComposeConfig, ComposeRules } from '../plan/compose-config.ts';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import type { HostReader, Plan, StartStep, Step } from '../plan/plan.ts';
import { blindHostReader } from '../system/host-reader.ts';
import type { BackupSite, Executor, HostSite, Intent, PlanContext } from './executor.ts';

/** The rules of a stack without exceptions. */
export function composeRules(stack: string, more: Partial<ComposeRules> = {}): ComposeRules {
  return {
    stack,
    project: stack,
    others: [],
    dir: `/opt/stacks/${stack}`,
    grants: [],
    binds: [],
    readOnlyBinds: [],
    ports: [[1, 65_535]],
    agentPorts: [],
    hostNetworks: [],
    socket: '/var/run/docker.sock',
    agent: ['/etc/chatops', '/var/lib/chatops'],
    devices: [],
    capabilities: [],
    containers: [],
    volumes: [],
    networks: [],
    ...more,
  };
}

export const composeSite: HostSite['compose'] = { rulesOf: composeRules };

/** Returns a host's `render` that finds this config in every stack, and records the files of checked configs. */
export function createRender(config: ComposeConfig, written: string[] = []): HostReader['render'] {
  const check = (as: string): CheckedConfig => {
    written.push(as);
    return { file: as, sha256: createHash('sha256').update(as).digest('hex') };
  };
  return async ({ stack, dir, as, variants = {} }) => ({
    ...check(as),
    project: stack,
    config,
    profiles: ['extra'],
    sources: [`${dir}/compose.yaml`],
    mounts: [],
    warnings: [],
    variants: Object.fromEntries(Object.entries(variants).map(([name, variant]) => [name, check(variant.as)])),
  });
}

/** Every argv of a plan. */
function commandsOf({ steps, undo, cleanup, late = [] }: Plan): (readonly string[])[] {
  return [...steps, ...undo, ...cleanup, ...late].flatMap(step =>
    step.do === 'start' ? [step.argv] : step.do === 'await-healthy' && step.revive ? [step.revive.up.argv] : [],
  );
}

/** A compose command that reads a checked config and nothing else. */
const CHECKED_COMMAND =
  /^docker compose --ansi never --progress plain --project-directory \S+ --project-name [a-z0-9][a-z0-9_-]* --file (?<file>\S+\.json) --env-file \/dev\/null( --profile \S+)*( --dry-run)? (pull|up|stop|down)(?!.* (--file|-f|--env-file|--project-name|-p|--profile|config)( |=|$))/;

const STARTING = ['up', 'start', 'create', 'run', 'scale', 'restart'];

/** Returns the config that a command starts containers of; undefined for any other command. */
function startedConfig(argv: readonly string[]): string | undefined {
  if (argv[1] !== 'compose' || !argv.some(word => STARTING.includes(word))) return undefined;
  return argv[argv.indexOf('--file') + 1];
}

/**
 * Returns the steps of a plan that can start containers, and that no step `prepare-mounts` for the same config precedes in the
 * same list, under the same conditions.
 */
function listUnpreparedStarts({ steps, undo, cleanup, late = [] }: Plan): string[] {
  return [steps, undo, cleanup, late].flatMap(list =>
    list.flatMap((step, index) => {
      const isPrepared = (argv: readonly string[], earlier: readonly Step[]) => {
        const config = startedConfig(argv);
        return config === undefined || earlier.some(one => one.do === 'prepare-mounts' && one.config.file === config);
      };
      if (step.do === 'start') {
        const { ifBegan, unlessBegan, ifCut } = step;
        const isDueAsWell = (one: Step) =>
          one.ifBegan === ifBegan && one.unlessBegan === unlessBegan && one.ifCut === ifCut;
        return isPrepared(step.argv, list.slice(0, index).filter(isDueAsWell)) ? [] : [step.name];
      }
      if (step.do !== 'await-healthy' || !step.revive) return [];
      return isPrepared(step.revive.up.argv, step.revive.prepare) ? [] : [`${step.name}: ${step.revive.up.name}`];
    }),
  );
}

/** One case of the exam: an intent, the context of its plan, and a host that answers. */
export interface ContractCase {
  name: string;
  intent: Intent;
  context: PlanContext;
  look: HostReader;
}

/** Changes to the defaults of {@link createContext}. */
export interface ContextChanges extends Partial<Omit<PlanContext, 'site' | 'document'>> {
  /** The document's name. */
  name?: string;
  site?: Partial<Omit<HostSite, 'backups'>> & { backups?: Partial<BackupSite> };
}

/** Creates the context in which a test plans an intent: a host that allows no path until the test names it. */
export function createContext(
  intent: Intent,
  { name = 'nightly', site = {}, ...changes }: ContextChanges = {},
): PlanContext {
  return {
    document: { name, document: 1, documents: 1, intent },
    run: 'run-00001',
    at: '2026-11-21T06:00:00.123Z',
    site: {
      stacksRoot: '/opt/stacks',
      memory: '/var/lib/chatops/stacks',
      docker: 'docker',
      verify: [],
      settle: 2_000,
      switchFoldersOf: () => [],
      compose: composeSite,
      proxmox: '',
      ...site,
      backups: {
        sources: [],
        destinations: [],
        remotes: [],
        databases: [],
        records: '/var/lib/chatops/backups',
        ...site.backups,
      },
    },
    files: [],
    configs: '/var/lib/chatops/runs/run-00001/compose-1',
    wantsDiff: false,
    ...changes,
  };
}

/** A host on which every file, folder, program and container is missing, but for the given answers. */
export function createHost(answers: Partial<HostReader> = {}): HostReader {
  return {
    list: async () => null,
    read: async () => null,
    ask: async () => null,
    render: async () => undefined,
    engine: async () => null,
    ...answers,
  };
}

/** A step that only has a name. */
export function createStep(name: string): StartStep {
  return {
    do: 'start',
    name,
    argv: ['true'],
    timeout: 1,
    failure: { code: 'copy-failed', remedy: 'Read the step’s output.' },
  };
}

/** Returns the code of the failure that a plan throws, or `planned`. */
export async function failureCodeOf(plan: Promise<Plan>): Promise<string> {
  try {
    await plan;
    return 'planned';
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
}

/** Tests the contract that every executor keeps. */
export function testExecutorContract(executor: Executor, cases: ContractCase[]): void {
  describe.each(cases)(`the executor ${executor.kind} keeps the contract: $name`, ({ intent, context, look }) => {
    const plan = (reader: HostReader = look) => executor.plan(intent, context, reader);

    it('supports the intent, and names its locks', () => {
      expect(executor.supports(intent)).toBe(true);
      const subjects = executor.lockSubjects(intent, context.document);
      expect(subjects).not.toEqual([]);
      for (const subject of subjects) expect(subject).toMatch(/^\S+ \S/);
    });

    it('plans the same from the same input, as plain data', async () => {
      const first = await plan();
      expect(await plan()).toEqual(first);
      expect(JSON.parse(JSON.stringify(first))).toEqual(first);
    });

    it('gives every step a unique name, and refers in undo and cleanup only to its steps', async () => {
      const { steps, undo, cleanup } = await plan();
      const names = [...steps, ...undo, ...cleanup].map(step => step.name);
      expect(new Set(names).size).toBe(names.length);
      const done = new Set(steps.map(step => step.name));
      for (const step of [...undo, ...cleanup]) {
        for (const other of [step.ifBegan, step.unlessBegan, step.ifCut, step.do === 'restore' ? step.of : undefined]) {
          if (other !== undefined) expect(done).toContain(other);
        }
      }
    });

    it('starts programs only with a time limit and a remedy', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'start') continue;
        expect(step.timeout).toBeGreaterThan(0);
        expect(step.failure.remedy.length).toBeGreaterThan(10);
        expect(step.failure.code).toMatch(/^[a-z][a-z-]+$/);
      }
    });

    it('calls compose only with a config that was checked, and checks mounts before each start', async () => {
      const asked: (readonly string[])[] = [];
      const checked: string[] = [];
      const planned = await plan({
        ...look,
        ask: (argv, options) => {
          asked.push(argv);
          return look.ask(argv, options);
        },
        render: async request => {
          const rendered = await look.render(request);
          if (rendered) checked.push(rendered.file, ...Object.values(rendered.variants).map(({ file }) => file));
          return rendered;
        },
      });
      for (const argv of [...commandsOf(planned), ...asked]) {
        const line = argv.join(' ');
        if (!line.startsWith('docker compose ') || line === 'docker compose version --short') continue;
        const file = CHECKED_COMMAND.exec(line)?.groups?.file;
        expect(checked, line).toContain(file);
      }
      expect(listUnpreparedStarts(planned)).toEqual([]);
    });

    it('names paths that others may change to programs only if the step opens them', async () => {
      const { sources, destinations } = context.site.backups;
      const roots = [...sources, ...destinations.map(one => one.path)];
      for (const step of allSteps(await plan())) {
        if (step.do !== 'start') continue;
        const { argv, stdoutTo, stdinFrom, opens = [] } = step;
        // A server's socket is neither read nor written.
        const words = argv.filter((_, index) => !['--host', '--socket'].includes(argv[index - 1] ?? ''));
        for (const word of [...words, stdoutTo, stdinFrom]) {
          const path = word?.replace(/^(--?[a-z-]+=|[a-z]+=)+/, '') ?? '';
          if (!roots.some(root => isUnder(path, root))) continue;
          const isOpened = opens.some(one => path === one.path || path.slice(0, path.lastIndexOf('/')) === one.path);
          expect(isOpened && word === path, `${step.name}: ${word}`).toBe(true);
        }
        for (const { path, root } of opens) expect(isUnder(path, root), `${path} under ${root}`).toBe(true);
      }
    });

    it('writes only under the folders that the host gives it', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'write') continue;
        for (const { path, root } of step.changes) {
          expect(path.startsWith(`${root}/`)).toBe(true);
          expect([context.site.stacksRoot, context.site.memory].some(base => isUnder(root, base))).toBe(true);
        }
      }
    });

    it('claims absolute paths with absolute roots', () => {
      for (const { path, root } of executor.claimPaths(intent, context.site))
        expect(path.startsWith('/') && root.startsWith('/')).toBe(true);
    });

    it('plans in a dry run, too: with some of the steps of a real run, in the same order', async () => {
      const names = (planned: Plan) => planned.steps.map(step => step.name);
      const blind = names(await plan(blindHostReader));
      expect(names(await plan()).filter(name => blind.includes(name))).toEqual(blind);
    });
  });
}

function allSteps({ steps, undo, cleanup }: Plan) {
  return [...steps, ...undo, ...cleanup];
}
