import { compose } from './compose/index.ts';
import type { Executor } from './executor.ts';
import { mysql } from './mysql/index.ts';
import { plex } from './plex/index.ts';
import { postgres } from './postgres/index.ts';
import { sqlite } from './sqlite/index.ts';
import { volumes } from './volumes/index.ts';
import { vzdump } from './vzdump/index.ts';

/** Every kind of thing that this agent can do. Each is given only intents that it takes. */
export const executors: Executor[] = [compose, volumes, vzdump, sqlite, plex, postgres, mysql] as unknown as Executor[];
