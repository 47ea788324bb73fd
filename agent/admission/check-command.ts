import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { findCycle } from '../../intents/graph.ts';
import { type Intent, stackOf } from '../../intents/intent.ts';
import { type Deployment, MAX_SHIPPED_BYTES } from '../../protocol/command.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { Executor, HostSite } from '../executors/executor.ts';
import { refusals } from '../refusals.ts';
import { createAllowList } from '../steps/probe.ts';
import { isFolder } from '../system/file-changes.ts';
import { requireUnder } from '../system/safe-paths.ts';
import type { AdmittedCommand } from './admitted.ts';

/** Checks that each need comes with the command or was executed by another one, and that no document waits for itself. Throws `Refused`. */
export function checkCommandGraph(command: Deployment): void {
  const { intents, given = [] } = command;
  for (const { name, document, intent } of intents) {
    // A rollout may need backups of this host.
    if (intent.action === 'rollout') continue;
    const missing = intent.needs?.find(
      id => ![...intents, ...given].some(other => other.name === name && other.intent.id === id),
    );
    if (missing !== undefined)
      throw new Refused(
        refusals.graphInvalid(
          `${name} ${document} needs "${missing}", which is not in the command and is not reported as ended`,
        ),
      );
  }
  const cycle = findCycle(graphOfCommand(command).nodes);
  if (cycle) throw new Refused(refusals.graphInvalid(`${cycle.length} of them wait for each other`));
}

/** Returns each document with the executor that supports it. */
export function assignExecutors(command: Deployment, executors: Executor[]): AdmittedCommand['documents'] {
  return command.intents.map(document => {
    const executor = executors.find(one => one.supports(document.intent));
    if (!executor) throw new Error(`No executor takes ${document.intent.action}`);
    return { document, executor };
  });
}

/** Checks paths, addresses and the stack of a document. Throws `Refused`. */
export async function checkDocument(
  { document, executor }: AdmittedCommand['documents'][number],
  isDryRun: boolean,
  site: HostSite,
): Promise<void> {
  await checkClaims(document.intent, executor, site);
  // A dry run reads nothing of the host, so that it reveals no folder and no name.
  if (isDryRun) return;
  for (const host of executor.listHosts(document.intent)) await checkHost(host, site);
  await checkStack(document.intent, site);
}

/** Checks that each path of an intent is below its root, and that no link is in it. Throws `Refused`. */
export async function checkClaims(intent: Intent, executor: Executor, site: HostSite): Promise<void> {
  for (const { path, root } of executor.claimPaths(intent, site)) await requireUnder(path, root);
}

/** Checks an address of `verify`. A name without a dot may be a service of the stack, which only the step can know. Throws `Refused`. */
async function checkHost(host: string, site: HostSite): Promise<void> {
  const isLiteral = isIP(host) !== 0;
  if (!isLiteral && !host.includes('.') && host !== 'localhost') return;
  const addresses = isLiteral ? [{ address: host }] : await lookup(host, { all: true }).catch(() => []);
  const allowed = createAllowList(site.verify);
  for (const { address } of addresses) {
    if (!allowed.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'))
      throw new Refused(refusals.verifyAddressNotAllowed(isLiteral ? host : `${host} (${address})`));
  }
}

async function checkStack(intent: Intent, site: HostSite): Promise<void> {
  const stack = stackOf(intent);
  if (!stack) return;
  const folder = join(site.stacksRoot, stack);
  if (!(await isFolder(folder))) throw new Refused(refusals.stackUnknown(stack, folder));
}

/** Checks the files of a command: safe paths, in a stack that a rollout ships to, with the right checksum, not too many bytes. Throws `Refused`. */
export function checkShippedFiles(command: Deployment): void {
  const stacks = new Set(
    command.intents.flatMap(({ intent }) =>
      intent.action === 'rollout' && intent.source_dir !== undefined ? [intent.stack] : [],
    ),
  );
  const seen = new Set<string>();
  let bytes = 0;
  for (const file of command.files) {
    const notAllowed = (cause: string) => new Refused(refusals.fileNotAllowed(file.path, cause));
    if (!stacks.has(file.stack)) throw notAllowed('no rollout of this command ships files to its stack');
    const cause = explainUnsafePath(file.path);
    if (cause) throw notAllowed(cause);
    if (seen.has(`${file.stack}/${file.path}`)) throw notAllowed('the command ships it twice');
    seen.add(`${file.stack}/${file.path}`);
    const content = Buffer.from(file.content, 'base64');
    bytes += content.length;
    if (bytes > MAX_SHIPPED_BYTES) throw notAllowed(`with it the files have more than ${MAX_SHIPPED_BYTES} bytes`);
    if (createHash('sha256').update(content).digest('hex') !== file.sha256)
      throw notAllowed('its content does not match its checksum');
  }
}

function explainUnsafePath(path: string): string | undefined {
  if (path.startsWith('/')) return 'its path is absolute';
  if (path.includes('\\') || [...path].some(char => char < ' ' || char === '\u007f'))
    return 'its path contains a control character or a backslash';
  const segments = path.split('/');
  if (segments.some(segment => segment === '' || segment === '.' || segment === '..'))
    return 'its path has an empty part, "." or ".."';
  if (segments.some(segment => segment.toLowerCase() === '.git')) return 'it belongs to git';
  return undefined;
}
