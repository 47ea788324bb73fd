import { createHash } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseDuration } from '../intents/duration.ts';
import { messageOf, type Refusal, Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../protocol/signature.ts';
import { VERSION } from '../protocol/version.ts';
import { type AuthContext, isStillTrusted, trustedKeys } from './admission/authenticate.ts';
import { confirmWithGitHub } from './admission/confirm-with-github.ts';
import { Issuer } from './admission/oidc.ts';
import { AgentKeys } from './config/agent-keys.ts';
import { type Config, ConfigError, parseListen, parseSize, readConfig } from './config/load.ts';
import { writePrograms } from './config/proxmox-programs.ts';
import { siteOf } from './config/site.ts';
import { SELFTEST_MS, Selftest } from './diagnostics/selftest.ts';
import { executors } from './executors/index.ts';
import { AuditObserver, type RefusedCommand } from './observability/audit.ts';
import { Metrics } from './observability/metrics.ts';
import { Notifier } from './observability/notify/notifier.ts';
import { NoticeObserver } from './observability/notify/observer.ts';
import { CircuitBreakers } from './outbound/circuit-breaker.ts';
import { DockerEngine } from './outbound/docker.ts';
import { identifyPeer } from './outbound/tailscale.ts';
import { Failure } from './plan/failure.ts';
import { refusals } from './refusals.ts';
import { RunRegistry } from './runs/registry.ts';
import { AgentServer } from './server/http-server.ts';
import { LocalApi, SOCKET } from './server/local-api.ts';
import { answerQuestion } from './server/queries.ts';
import { createStepRunner } from './steps/index.ts';
import { AuditLog } from './store/audit-log.ts';
import { Database } from './store/database.ts';
import { createNoticeQueue } from './store/notice-queue.ts';
import { RunStore } from './store/runs.ts';
import { createHostReader } from './system/host-reader.ts';
import { createCleanEnvironment } from './system/process.ts';
import { createScheduler, createWebhookHandler, type HostRunDeps } from './triggers/host-runs.ts';

/** A running agent. */
export interface Agent {
  port: number;
  publicKey: string;
  /** Reads the configuration file again. A broken one is refused, told, and the old one stays. */
  reload(): void;
  /** Takes no new commands, lets go of the runs in flight (their processes go on), and closes everything. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  say?: (line: string) => void;
  /** argv that starts a keeper; see cli/keeper.ts. */
  keeper: readonly [string, ...string[]];
  /** How often connections are asked whether they are alive, in milliseconds. */
  pingMs?: number;
}

/** Starts the agent that `file` (agent.yaml) describes. Throws {@link ConfigError} or a system error. */
export async function startAgent(file: string, { say = console.log, keeper, pingMs }: AgentOptions): Promise<Agent> {
  let config = readConfig(file);
  const { state_dir } = config;
  makeStateDir(state_dir);
  mkdirSync(join(state_dir, 'backups'), { recursive: true, mode: 0o700 });
  const keys = new AgentKeys(state_dir);
  writePrograms(config, keeper);
  const database = new Database(join(state_dir, 'chatops.db'));
  const store = new RunStore(database);
  const chain = new AuditLog(database);
  const audit = new AuditObserver(chain);
  const environment = createCleanEnvironment(config.docker);
  const engine = new DockerEngine(config.docker.socket);
  const look = createHostReader(engine, environment);
  const circuits = new CircuitBreakers();
  const metrics = new Metrics(
    config.agent,
    {
      inProgress: () => runs.inProgress(),
      waiting: () => runs.waiting(),
      connections: () => server.connections,
      schedules: () => schedules.list(),
      circuits: () => [...notifier.circuits(), ...circuits.states()],
    },
    () => store.backups(),
    () => chain.head,
  );
  const notifier = new Notifier({
    config: () => config.notify,
    queue: createNoticeQueue(database),
    count: (channel, outcome) => metrics.notified(channel, outcome),
    say,
  });
  const notices = new NoticeObserver(config.agent, notifier);
  const runs = new RunRegistry({
    agent: config.agent,
    keys: () => keys.all,
    store,
    executors,
    folder: join(state_dir, 'runs'),
    site: () => siteOf(config),
    look,
    createStepRunner: (runDir, redactor) =>
      createStepRunner({
        ...{ engine, environment, keeper, runDir, redactor },
        outputLimit: parseSize(config.limits.output),
        circuits,
      }),
    secrets: () => ({ own: keys.secrets, shown: config.secrets.show }),
    observers: [audit, metrics, notices],
    audit: () => chain.head,
    circuits,
    limit: config.limits.concurrent_runs,
  });
  const createAuthContext = (next: Config): AuthContext => ({
    agent: config.agent,
    keys: trustedKeys(next),
    entries: next.trust,
    issuer: new Issuer(next.oidc, join(state_dir, 'oidc-keys.json'), circuits),
    identify: (from, rules) => identifyPeer(next.tailscale.socket, from, rules),
  });
  let judges = createAuthContext(config);
  let selftest: Selftest | undefined;
  const refused = (refusal: Refusal, who: RefusedCommand) => {
    metrics.refused(refusal, who);
    notices.refused(refusal, who);
    try {
      audit.refused(refusal, who);
    } catch (error) {
      // A full disk must not let a stranger's knocking end the agent.
      console.error('audit:', error);
    }
  };
  const hostRunDeps = (): HostRunDeps => ({
    ...{ config: () => config, site: () => siteOf(config) },
    ...{ store, runs, executors, audit, metrics, notices },
  });
  const server = new AgentServer({
    config: () => config,
    authContext: () => selftest?.beside(judges) ?? judges,
    site: () => siteOf(config),
    keys: () => keys.all,
    runs,
    executors,
    refused,
    confirm: command => confirmWithGitHub(config, command, circuits),
    answer({ question, origin }, key, address) {
      if (question.about !== 'run')
        writeAudit('asked', {
          about: question.about,
          address,
          key: key.id,
          trust: key.entry.name,
          actor: origin.actor,
        });
      return answerQuestion(question, key, {
        ...{ file, config: () => config, runs, audit: chain, schedules: () => schedules.list() },
        notifyTest: channel => notifier.testAll(channel, config.agent),
      });
    },
    metrics: () => metrics.registry.metrics(),
    say,
    hooks: {
      take: delivery => createWebhookHandler(hostRunDeps()).handle(delivery),
      count: (hook, outcome) => metrics.hooked(hook, outcome),
    },
    ...(pingMs === undefined ? {} : { pingMs }),
    unready: async () => [
      ...(await collectProblem(() => engine.ping())),
      ...(await collectProblem(() => checkCompose(look, config.docker.command))),
      ...(await collectProblem(async () => store.probe())),
    ],
  });
  /** A full disk must not end the agent, nor keep it from what it was told. */
  const writeAudit = (event: string, facts: object) => {
    try {
      audit.write(event, facts);
    } catch (error) {
      console.error('audit:', error);
    }
  };
  /** Whether the file was taken over, and what there is to say. What can fail comes before anything is changed. */
  const reload = (by: 'signal' | 'local'): { taken: boolean; message: string } => {
    const before = { judges, keys: keys.all.map(({ public: { id } }) => id) };
    let fixed: string[];
    try {
      const { agent, listen, docker, tls } = config;
      const kept = { agent, listen, state_dir, docker, tls };
      const written = readConfig(file);
      const next: Config = { ...written, ...kept };
      fixed = (Object.keys(kept) as (keyof typeof kept)[]).filter(
        name => JSON.stringify(written[name]) !== JSON.stringify(kept[name]),
      );
      const nextJudges = createAuthContext(next);
      writePrograms(next, keeper);
      keys.reload();
      config = next;
      judges = nextJudges;
    } catch (error) {
      const code = error instanceof ConfigError ? error.code : 'fault';
      const why = messageOf(error);
      writeAudit('reload-refused', { by, code, message: why });
      const message = `configuration refused, the old one stays:\n${why}`;
      say(message);
      return { taken: false, message };
    }
    schedules.start();
    server.reload(config);
    for (const who of server.revoke(one => isStillTrusted(one, judges)))
      writeAudit('connection-revoked', { key: who.id, trust: who.entry.name });
    const own = keys.all.map(({ public: { id } }) => id);
    if (own.join() !== before.keys.join()) writeAudit('agent-key-changed', { before: before.keys, now: own });
    writeAudit('reloaded', { by, ...describeTrustChanges(before.judges, judges), needs_restart: fixed });
    const message = `configuration reloaded${fixed.length > 0 ? `; restart the agent for: ${fixed.join(', ')}` : ''}`;
    say(message);
    return { taken: true, message };
  };
  const schedules = createScheduler(hostRunDeps());
  const { host, port } = parseListen(config.listen) ?? { host: '127.0.0.1', port: 0 };
  await server.listen(host, port);
  const local = new LocalApi({
    runs,
    executors,
    config: () => config,
    site: () => siteOf(config),
    refused,
    audit: chain,
    schedules: () => schedules.list(),
    notifyTest: channel => notifier.testAll(channel, config.agent),
    reload: () => reload('local'),
    selftest(key) {
      selftest = new Selftest(key);
      server.exemptFromLimit(host, SELFTEST_MS);
      audit.write('selftest', {});
    },
    signReport(report) {
      if (!selftest || selftest.isOver) throw new Refused(refusals.noSelftest());
      selftest = undefined;
      audit.write('selftest-ended', { ...report, results: undefined });
      return signPayload(PAYLOAD_TYPES.selftest, Buffer.from(JSON.stringify(report)), keys.all);
    },
  });
  await local.listen(join(state_dir, SOCKET));
  const stopPruning = startRetentionTimer(runs, () => config);
  audit.write('started', {
    agent: config.agent,
    version: VERSION,
    listen: config.listen,
    key: keys.current.public.id,
    ...describeTrustChanges(judges, judges),
  });
  const adopted = runs.resumeAll();
  schedules.start();
  notifier.start();
  say(`chatops agent "${config.agent}" ${VERSION} listens on ${config.listen}`);
  say(`agent-key: ${keys.current.public.text}`);
  if (adopted.length > 0) say(`taken up again: ${adopted.join(', ')}`);

  return {
    port: server.port,
    get publicKey() {
      return keys.current.public.text;
    },
    reload: () => void reload('signal'),
    async stop() {
      stopPruning();
      await schedules.stop();
      await runs.stop();
      await Promise.all([server.close(), local.close()]);
      await notifier.stop();
      audit.countRefusals();
      audit.write('stopped', {});
      store.close();
    },
  };
}

/** Who is trusted now, and what of it has changed: for the audit. */
function describeTrustChanges(before: AuthContext, now: AuthContext): object {
  const ids = ({ keys }: AuthContext) => keys.map(({ id, entry }) => `${entry.name}:${id}`);
  const policy = ({ entries }: AuthContext) => createHash('sha256').update(JSON.stringify(entries)).digest('hex');
  return {
    keys: now.keys.map(({ id }) => id),
    keys_added: ids(now).filter(id => !ids(before).includes(id)),
    keys_removed: ids(before).filter(id => !ids(now).includes(id)),
    policy: policy(now),
    policy_changed: policy(now) !== policy(before),
  };
}

const PRUNE_EVERY = 3_600_000;

/** Takes out what `history` in agent.yaml does not keep: soon after the start, and then every hour. */
function startRetentionTimer(runs: RunRegistry, config: () => Config): () => void {
  const prune = () => {
    const { keep, max_runs, max_size } = config().history;
    const before = new Date(Date.now() - parseDuration(keep)).toISOString();
    runs
      .prune({ before, runs: max_runs, bytes: parseSize(max_size) })
      .catch((error: unknown) => console.error('history:', error));
  };
  const soon = setTimeout(prune, 1_000);
  const often = setInterval(prune, PRUNE_EVERY);
  soon.unref();
  often.unref();
  return () => {
    clearTimeout(soon);
    clearInterval(often);
  };
}

function makeStateDir(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  if ((statSync(dir).mode & 0o077) !== 0) {
    throw new ConfigError(`${dir}: others can read this folder, which holds the agent’s key. Run: chmod 700 ${dir}`);
  }
}

async function checkCompose(look: ReturnType<typeof createHostReader>, docker: string): Promise<void> {
  const answer = await look.ask([docker, 'compose', 'version', '--short'], { keepFor: 60_000 });
  if (answer?.code !== 0)
    throw new Failure('program-missing', `"${docker} compose version" fails: ${answer?.stderr.trim()}`, '');
}

async function collectProblem(check: () => Promise<unknown>): Promise<string[]> {
  try {
    await check();
    return [];
  } catch (error) {
    return [messageOf(error)];
  }
}
