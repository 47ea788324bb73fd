import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isMap, isScalar, isSeq, parseDocument } from 'yaml';
import { type PublicKey, readPublicKey, readSecretKey } from '../../protocol/keys.ts';
import { parseConfig, readConfig } from '../config.ts';
import { KEY_FILE, makeKey, NEXT_KEY_FILE } from '../own-keys.ts';
import { ask, socketOf } from './ask.ts';

const USAGE = `usage: chatops key fingerprint KEY | FILE
       chatops key add PUBLIC-KEY --entry NAME [--config FILE]
       chatops key remove ID --entry NAME [--config FILE]
       chatops key rotate [--finish] [--config FILE]
`;

/** Keys: what they are called, which of them an entry of agent.yaml trusts, and the change of the agent's own. */
export async function key(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      config: { type: 'string', default: '/etc/chatops/agent.yaml' },
      entry: { type: 'string' },
      finish: { type: 'boolean', default: false },
    },
  });
  const [verb, subject, ...rest] = positionals;
  const { config, entry } = values;
  if (rest.length === 0) {
    if (verb === 'fingerprint' && subject !== undefined) return fingerprint(subject);
    if (verb === 'rotate' && subject === undefined) return rotate(config, values.finish);
    if (verb === 'add' && subject !== undefined && entry !== undefined) {
      const added = readPublicKey(subject);
      change(config, entry, keys => (keys.some(({ id }) => id === added.id) ? keys : [...keys, added]));
      console.log(`the key ${added.id} is trusted under "${entry}"`);
      return reload(config);
    }
    if (verb === 'remove' && subject !== undefined && entry !== undefined) {
      change(config, entry, keys => {
        const left = keys.filter(({ id }) => id !== subject);
        if (left.length === keys.length)
          throw new Error(
            `"${entry}" has no key ${subject}. It has: ${keys.map(({ id }) => id).join(', ') || 'none'}.`,
          );
        return left;
      });
      console.log(`the key ${subject} is not trusted under "${entry}" any more`);
      return reload(config);
    }
  }
  process.stderr.write(USAGE);
  return 2;
}

/** Of a key as text or in a file, secret or public: what the audit and the log call it. */
function fingerprint(subject: string): number {
  const text = existsSync(subject) ? readFileSync(subject, 'utf8') : subject;
  const isSecret = text.includes('ed25519-secret:') || text.includes('PRIVATE KEY');
  const { id, text: shown } = isSecret ? readSecretKey(text).public : readPublicKey(text);
  console.log(`key id: ${id}`);
  console.log(`public: ${shown}`);
  return 0;
}

/**
 * First a key is made that is to follow, and the agent signs with both; with `finish` it takes the old one's place. In
 * between every workflow is given the new one, each when it suits.
 */
async function rotate(config: string, isLast: boolean): Promise<number> {
  const { state_dir } = readConfig(config);
  const [file, next] = [join(state_dir, KEY_FILE), join(state_dir, NEXT_KEY_FILE)];
  if (isLast) {
    if (!existsSync(next)) throw new Error('There is no key that is to follow. Begin with: chatops key rotate');
    renameSync(next, file);
    console.log('the new key has taken the old one’s place');
    return reload(config);
  }
  if (existsSync(next)) {
    console.log(`agent-key: ${readSecretKey(readFileSync(next, 'utf8')).public.text}`);
    console.log('This key is to follow already. Put it into the workflows, then: chatops key rotate --finish');
    return 0;
  }
  console.log(`agent-key: ${makeKey(next)}`);
  console.log('The agent signs with both keys. Put this one into the workflows, then: chatops key rotate --finish');
  return reload(config);
}

/** Changes the keys of one entry, and leaves everything else of the file (comments too) as it is. Throws an Error. */
function change(file: string, entry: string, edit: (keys: PublicKey[]) => PublicKey[]): void {
  const text = readFileSync(file, 'utf8');
  const document = parseDocument(text, { uniqueKeys: true, strict: true, schema: 'core' });
  const trust = document.get('trust');
  const found = isSeq(trust) ? trust.items.find(item => isMap(item) && item.get('name') === entry) : undefined;
  if (!isMap(found)) throw new Error(`${file} has no trust entry "${entry}".`);
  const node = found.get('key', true);
  const texts = isSeq(node) ? (node.toJSON() as string[]) : isScalar(node) ? [String(node.value)] : [];
  const keys = edit(texts.map(readPublicKey)).map(one => one.text);
  if (keys.length === 0) found.delete('key');
  else found.set('key', keys.length === 1 ? keys[0] : document.createNode(keys));
  const changed = document.toString({ lineWidth: 0 });
  parseConfig(changed, file);
  const partial = `${file}.partial`;
  writeFileSync(partial, changed, { mode: statSync(file).mode & 0o777 });
  renameSync(partial, file);
}

/** Tells the agent of this host, where one runs. */
async function reload(config: string): Promise<number> {
  const socket = socketOf({ config });
  if (!existsSync(socket)) {
    console.log('No agent runs here; it takes this over at its start.');
    return 0;
  }
  const { taken, message } = await ask<{ taken: boolean; message: string }>(socket, 'POST', '/reload', {});
  console.log(message);
  return taken ? 0 : 1;
}
