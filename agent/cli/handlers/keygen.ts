import { writeFileSync } from 'node:fs';
import { generateKey } from '../../../protocol/keys.ts';
import type { Options } from '../commands.ts';

/** Makes a signing key. A file that exists is never overwritten. */
export function keygenCommand(_args: [], { out, json }: Options<'keygen'>): number {
  const key = generateKey();
  if (out !== undefined) writeFileSync(out, `${key.secret}\n`, { mode: 0o600, flag: 'wx' });
  if (json) {
    const secret = out === undefined ? { secret: key.secret } : { out };
    console.log(JSON.stringify({ ...secret, public: key.public, id: key.id }));
    return 0;
  }
  if (out === undefined) console.log(`secret (for the workflow secret CHATOPS_SIGNING_KEY): ${key.secret}`);
  else console.log(`secret: written to ${out}`);
  console.log(`public (for "key" under trust in agent.yaml): ${key.public}`);
  console.log(`key id: ${key.id}`);
  return 0;
}
