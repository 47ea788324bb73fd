import { lookup } from 'node:dns/promises';
import { type BlockList, connect, isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import { type DockerEngine, inspectAll, serviceLabelOf } from '../outbound/docker.ts';
import { sendLimitedRequest } from '../outbound/http-request.ts';
import { Failure } from '../plan/failure.ts';
import type { HttpStep, TcpStep } from '../plan/plan.ts';
import type { OutputChunk, StepResult } from '../plan/progress.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import { listContainers } from './health.ts';

/** How much of an answer is read, in bytes. */
const MAX_BODY_BYTES = 1024 * 1024;

/** In place of an address: the containers of the stack that is verified. */
const STACK = 'stack';

/**
 * Asks until the answer is as wanted, at most `retries` times more. Which addresses a host means is found out anew each
 * time, and only those that the policy allows are connected to: by address, so that no name can lead elsewhere meanwhile.
 */
export async function* runProbe(
  engine: DockerEngine,
  step: HttpStep | TcpStep,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk, StepResult> {
  const what = step.do === 'http' ? step.url : `${step.host}:${step.port}`;
  for (let tries = 0; ; tries++) {
    if (signal.aborted) return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.` };
    const why = await attemptProbe(engine, step, signal);
    if (why === undefined) {
      yield { text: `${what}: as it should be\n` };
      return { outcome: 'succeeded' };
    }
    if (why instanceof Failure) return { outcome: 'failed', code: why.code, message: why.message, remedy: why.remedy };
    yield { text: `${what}: ${why}\n` };
    if (tries >= step.retries) {
      return {
        outcome: 'failed',
        code: 'verify-failed',
        message: `${what}: ${why} (${tries + 1} ${tries === 0 ? 'try' : 'tries'})`,
        remedy: 'Look at the service’s log on the host, or correct "verify" in the intent.',
      };
    }
    await sleep(step.pause, undefined, { signal }).catch(() => undefined);
  }
}

/** Undefined where all is as it should be; a text why it is not yet; Failure where trying again is no use. */
async function attemptProbe(
  engine: DockerEngine,
  step: HttpStep | TcpStep,
  signal: AbortSignal,
): Promise<string | Failure | undefined> {
  try {
    const host = step.do === 'http' ? new URL(step.url).hostname.replace(/^\[|\]$/g, '') : step.host;
    const addresses = await resolveAddresses(host, step, engine);
    if (addresses.length === 0) return `no container of the service "${host}" runs`;
    for (const address of addresses) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(step.timeout)]);
      const why = step.do === 'http' ? await tryHttp(step, address, limit) : await tryTcp(step.port, address, limit);
      if (why !== undefined) return addresses.length > 1 ? `${address}: ${why}` : why;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Failure && error.code !== 'docker-unreachable') return error;
    return messageOf(error);
  }
}

/** The addresses that a host means. Throws Failure `verify-address-not-allowed` where one may not be asked. */
async function resolveAddresses(host: string, step: HttpStep | TcpStep, engine: DockerEngine): Promise<string[]> {
  const own = step.allow.includes(STACK) ? await ownAddresses(step, engine) : [];
  const service = own.filter(one => one.service === host).map(one => one.address);
  if (own.some(one => one.service === host)) return service.filter(address => address !== '');
  const addresses = isIP(host) ? [host] : (await lookup(host, { all: true })).map(({ address }) => address);
  const allowed = createAllowList(step.allow);
  const not = addresses.find(
    address =>
      !own.some(one => one.address === address) && !allowed.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'),
  );
  if (not !== undefined) throw notAllowed(not === host ? host : `${host} (${not})`);
  return addresses;
}

async function ownAddresses(
  step: HttpStep | TcpStep,
  engine: DockerEngine,
): Promise<{ service: string; address: string }[]> {
  const all = await inspectAll(engine, await listContainers(engine, step.project));
  return all.flatMap(({ listed, inspected }) => {
    const networks = Object.values(inspected.NetworkSettings.Networks ?? {});
    const [first = ''] = networks.map(({ IPAddress }) => IPAddress).filter(Boolean);
    return [{ service: serviceLabelOf(listed), address: inspected.State.Status === 'running' ? first : '' }];
  });
}

/** The ranges of a policy; the word for the stack's own is none. */
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
    ...(isIP(url.hostname.replace(/^\[|\]$/g, '')) ? { host: address } : {}),
  });
  return explainMismatch(step, status, body.toString());
}

function explainMismatch(step: HttpStep, status: number, body: string): string | undefined {
  if (!step.status.includes(status)) return `it answered ${status}, not ${step.status.join(' or ')}`;
  if (step.body !== undefined && !body.includes(step.body))
    return `its answer does not hold ${JSON.stringify(step.body)}: ${JSON.stringify(body.slice(0, 100))}`;
  return undefined;
}

function tryTcp(port: number, address: string, signal: AbortSignal): Promise<string | undefined> {
  return new Promise(done => {
    const socket = connect({ host: address, port, signal });
    socket.once('connect', () => {
      socket.destroy();
      done(undefined);
    });
    socket.once('error', error => done(signal.aborted ? 'it did not answer in time' : error.message));
  });
}
