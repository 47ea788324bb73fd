import { lookup } from 'node:dns/promises';
import { type BlockList, connect, isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import { isExternalHost } from '../outbound/circuit-breaker.ts';
import { type DockerEngine, inspectAll } from '../outbound/docker.ts';
import { sendLimitedRequest } from '../outbound/http-request.ts';
import { composeLabel } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import type { HttpStep, TcpStep } from '../plan/plan.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import { listContainers } from './health.ts';
import { cancelledResult, failedResult, type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';

const MAX_BODY_BYTES = 1024 * 1024;

/** Stands in `verify.allow` for the containers of the stack that is verified. */
const STACK = 'stack';

type ProbeStep = HttpStep | TcpStep;
type ProbeContext = Pick<StepContext, 'engine' | 'signal' | 'circuits'>;

/**
 * Asks until the answer is as expected, at most `retries` times more. Resolves the host again for each try, and connects by
 * address and only to addresses that the policy allows, so that no name can lead elsewhere in between.
 */
export async function* runProbe(step: ProbeStep, context: ProbeContext): StepExecution {
  const host = step.do === 'tcp' ? step.host : hostOf(new URL(step.url));
  const result = yield* probe(step, context);
  if (isExternalHost(host)) {
    if (result.outcome === 'succeeded') context.circuits?.succeeded(`verify ${host}`);
    else if (result.code === 'verify-failed') context.circuits?.failed(`verify ${host}`);
  }
  return result;
}

async function* probe(step: ProbeStep, { engine, signal }: ProbeContext): StepExecution {
  const target = step.do === 'http' ? step.url : `${step.host}:${step.port}`;
  for (let tries = 0; ; tries++) {
    if (signal.aborted) return cancelledResult(step.name);
    const problem = await attemptProbe(engine, step, signal);
    if (problem === undefined) {
      yield { text: `${target}: as expected\n` };
      return SUCCEEDED;
    }
    if (problem instanceof Failure) return failedResult(problem);
    yield { text: `${target}: ${problem}\n` };
    if (tries >= step.retries) {
      return failedResult({
        code: 'verify-failed',
        message: `${target}: ${problem} (${tries + 1} ${tries === 0 ? 'try' : 'tries'})`,
        remedy: 'Look at the service’s log on the host, or correct "verify" in the intent.',
      });
    }
    await sleep(step.pause, undefined, { signal }).catch(() => undefined);
  }
}

/** Returns undefined if the answer is as expected, a text if another try may help, and a Failure if none can. */
async function attemptProbe(
  engine: DockerEngine,
  step: ProbeStep,
  signal: AbortSignal,
): Promise<string | Failure | undefined> {
  try {
    const host = step.do === 'http' ? hostOf(new URL(step.url)) : step.host;
    const addresses = await resolveAddresses(host, step, engine);
    if (addresses.length === 0) return `no container of the service "${host}" is running`;
    for (const address of addresses) {
      const problem = step.do === 'http' ? await tryHttp(step, address, signal) : await tryTcp(step, address, signal);
      if (problem !== undefined) return addresses.length > 1 ? `${address}: ${problem}` : problem;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Failure && error.code !== 'docker-unreachable') return error;
    return messageOf(error);
  }
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

/** Returns the addresses of a host. Throws Failure `verify-address-not-allowed` if the policy forbids one of them. */
async function resolveAddresses(host: string, step: ProbeStep, engine: DockerEngine): Promise<string[]> {
  const own = step.allow.includes(STACK) ? await listStackAddresses(step, engine) : [];
  const ofService = own.filter(({ service }) => service === host);
  if (ofService.length > 0) return ofService.map(({ address }) => address).filter(address => address !== '');
  const addresses = isIP(host) ? [host] : (await lookup(host, { all: true })).map(({ address }) => address);
  const allowed = createAllowList(step.allow);
  const forbidden = addresses.find(
    address =>
      !own.some(one => one.address === address) && !allowed.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'),
  );
  if (forbidden !== undefined) throw notAllowed(forbidden === host ? host : `${host} (${forbidden})`);
  return addresses;
}

/** Returns the address of each of the stack's containers; '' for one that is not running. */
async function listStackAddresses(
  step: ProbeStep,
  engine: DockerEngine,
): Promise<{ service: string; address: string }[]> {
  const all = await inspectAll(engine, await listContainers(engine, step.project));
  return all.map(({ listed, inspected }) => {
    const networks = Object.values(inspected.NetworkSettings.Networks ?? {});
    const [first = ''] = networks.map(({ IPAddress }) => IPAddress).filter(Boolean);
    return { service: composeLabel(listed, 'service'), address: inspected.State.Status === 'running' ? first : '' };
  });
}

/** Returns the address ranges of `verify.allow`, without the word for the stack's own addresses. */
export function createAllowList(allow: string[]): BlockList {
  return parseAddressRanges(allow.filter(range => range !== STACK));
}

function notAllowed(host: string): Failure {
  return new Failure(
    'verify-address-not-allowed',
    `This host’s policy does not let "verify" ask ${host}.`,
    'Ask loopback or a service of the stack, or add the address to verify.allow in agent.yaml.',
  );
}

async function tryHttp(step: HttpStep, address: string, signal: AbortSignal): Promise<string | undefined> {
  const url = new URL(step.url);
  const { status, body } = await sendLimitedRequest({
    url,
    signal,
    timeout: step.timeout,
    maxBytes: MAX_BODY_BYTES,
    overflow: 'cut',
    agent: false,
    headers: { 'user-agent': 'chatops-agent', connection: 'close' },
    lookup: (_host, options, found) =>
      options.all ? found(null, [{ address, family: isIP(address) }]) : found(null, address, isIP(address)),
    // Node does not look an address up: the URL's own would be used.
    ...(isIP(hostOf(url)) ? { host: address } : {}),
  });
  return explainMismatch(step, status, body.toString());
}

function explainMismatch(step: HttpStep, status: number, body: string): string | undefined {
  if (!step.status.includes(status)) return `it answered ${status}, not ${step.status.join(' or ')}`;
  if (step.body !== undefined && !body.includes(step.body))
    return `its answer does not contain ${JSON.stringify(step.body)}: ${JSON.stringify(body.slice(0, 100))}`;
  return undefined;
}

function tryTcp({ port, timeout }: TcpStep, address: string, signal: AbortSignal): Promise<string | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeout)]);
  return new Promise(resolve => {
    const socket = connect({ host: address, port, signal: limit });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', error => resolve(limit.aborted ? `no answer within ${timeout / 1000} s` : error.message));
  });
}
