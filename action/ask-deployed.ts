import { askAgent } from '../client/ask.ts';
import type { AgentAddress, DeliveryOptions } from '../client/deliver.ts';
import { type Intent, stackOf } from '../intents/intent.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Origin } from '../protocol/command.ts';
import type { DeployedDocument } from '../protocol/question.ts';
import { Refused } from '../protocol/refusal.ts';
import type { Batch } from './batches.ts';
import type { HostDocument } from './coverage.ts';
import { idToken } from './id-token.ts';
import type { Inputs } from './inputs.ts';

export interface AskOptions {
  documents: readonly LoadedIntent[];
  batches: readonly Batch[];
  agents: ReadonlyMap<string, AgentAddress>;
  origin: Origin;
  inputs: Inputs;
  say: (line: string) => void;
}

/**
 * Asks each host up to which commit the content of its documents is approved. A host that does not answer is absent if there
 * are others: its own command reports why. Throws `Refused`.
 */
export async function askDeployed({ documents, batches, ...asking }: AskOptions): Promise<HostDocument[]> {
  const byHost = new Map<string, LoadedIntent[]>();
  for (const { target, places } of batches)
    for (const host of target.waves.flat())
      byHost.set(host, [...(byHost.get(host) ?? []), ...places.flatMap(place => documents[place] ?? [])]);
  const answers = await Promise.all([...byHost].map(([host, own]) => askHost(host, own, byHost.size === 1, asking)));
  return answers.flat();
}

async function askHost(
  host: string,
  documents: readonly LoadedIntent[],
  isOnly: boolean,
  { agents, origin, inputs, say }: Omit<AskOptions, 'documents' | 'batches'>,
): Promise<HostDocument[]> {
  const asked = new Map<string, DeployedDocument & { files: Set<string>; paths: Set<string> }>();
  for (const { name, file, intent } of documents) {
    const stack = stackOf(intent);
    const known = asked.get(`${stack}/${name}`) ?? { name, stack, files: new Set<string>(), paths: new Set<string>() };
    const folder = sourceDirOf(intent);
    known.files.add(file);
    known.paths.add(file);
    if (folder !== undefined) known.paths.add(`${folder}/`);
    asked.set(`${stack}/${name}`, folder === undefined ? known : { ...known, source_dir: folder });
  }
  const all = [...asked.values()];
  const { signingKey, oidc, connectTimeout } = inputs;
  const delivery: DeliveryOptions = {
    ...{ agent: agents.get(host) as AgentAddress, key: signingKey, connectTimeout, timeout: connectTimeout * 2 },
    ...(oidc ? { idToken } : {}),
    log: line => say(`${host === '' ? 'the agent' : host}: ${line}`),
  };
  try {
    const question = { about: 'deployed' as const, documents: all.map(({ files, paths, ...document }) => document) };
    const answer = await askAgent(question, { origin }, delivery);
    return all.map(({ name, stack, files, paths }, index) => ({
      ...{ host, name, stack, files: [...files], paths: [...paths] },
      since: answer[index]?.since ?? null,
      isFirst: answer[index]?.isFirst ?? true,
    }));
  } catch (error) {
    if (isOnly || !(error instanceof Refused)) throw error;
    return [];
  }
}

function sourceDirOf(intent: Intent): string | undefined {
  return 'source_dir' in intent ? intent.source_dir : undefined;
}
