import type { Admission } from '../admission/admit.ts';
import type { AgentKeys } from '../config/agent-keys.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import type { RunRegistry } from '../runs/registry.ts';
import type { RunStore } from '../store/runs.ts';
import type { EndpointRecorder } from './endpoint-recorder.ts';
import type { Queries } from './queries.ts';

/** The parts of the agent that every endpoint uses. A reload replaces `live.current`, so that it takes effect at once. */
export interface EndpointDeps {
  live: Live<Config>;
  admission: Admission;
  runs: RunRegistry;
  store: RunStore;
  queries: Queries;
  keys: AgentKeys;
  recorder: EndpointRecorder;
}
