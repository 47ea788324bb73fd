import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { generateKey } from '../../protocol/keys.ts';

export function keygenCommand(args: string[]): number {
  const { values } = parseArgs({
    args,
    options: { out: { type: 'string' }, json: { type: 'boolean', default: false } },
  });
  const key = generateKey();
  if (values.out !== undefined) writeFileSync(values.out, `${key.secret}\n`, { mode: 0o600, flag: 'wx' });
  if (values.json) {
    const secret = values.out === undefined ? { secret: key.secret } : { out: values.out };
    console.log(JSON.stringify({ ...secret, public: key.public, id: key.id }));
    return 0;
  }
  if (values.out === undefined) {
    console.log(`secret (for the workflow's secret CHATOPS_SIGNING_KEY): ${key.secret}`);
  } else {
    console.log(`secret: written to ${values.out}`);
  }
  console.log(`public (for "key" under trust in agent.yaml): ${key.public}`);
  console.log(`key id: ${key.id}`);
  return 0;
}
