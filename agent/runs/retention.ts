import { parseDuration } from '../../intents/duration.ts';
import { type Config, parseSize } from '../config/load.ts';
import type { RunRegistry } from './registry.ts';

const FIRST_MS = 1_000;
const EVERY_MS = 3_600_000;

/** Deletes the runs that `history` in agent.yaml does not keep: soon after the start, then every hour. Returns the function that stops it. */
export function startRetention(runs: RunRegistry, config: () => Config): () => void {
  const prune = () => {
    const { keep, max_runs, max_size } = config().history;
    const before = new Date(Date.now() - parseDuration(keep)).toISOString();
    runs
      .prune({ before, runs: max_runs, bytes: parseSize(max_size) })
      .catch((error: unknown) => console.error('history:', error));
  };
  const first = setTimeout(prune, FIRST_MS);
  const every = setInterval(prune, EVERY_MS);
  first.unref();
  every.unref();
  return () => {
    clearTimeout(first);
    clearInterval(every);
  };
}
