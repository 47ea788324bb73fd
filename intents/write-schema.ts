import { writeFileSync } from 'node:fs';
import { intentJsonSchema } from './json-schema.ts';

writeFileSync(new URL('intent.schema.json', import.meta.url), `${JSON.stringify(intentJsonSchema(), null, 2)}\n`);
