import { writeFileSync } from 'node:fs';
import { configJsonSchema } from './load.ts';

writeFileSync(new URL('../agent.schema.json', import.meta.url), `${JSON.stringify(configJsonSchema(), null, 2)}\n`);
