import { Refused } from '../../../protocol/refusal.ts';
import { type CheckResult, diagnoseHost, failed, passed } from '../../diagnostics/doctor.ts';
import type { Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { createRemoteAgent } from '../remote.ts';

/** Checks everything that an agent needs, and prints a remedy for each problem. */
export async function doctorCommand(_args: [], options: Options<'doctor'>): Promise<number> {
  const results: CheckResult[] =
    (await createRemoteAgent(options)?.ask({ about: 'doctor' })) ?? (await diagnoseLocally(options.config));
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else for (const result of results) console.log(formatResult(result));
  return results.some(({ state }) => state === 'bad') ? 1 : 0;
}

function diagnoseLocally(file: string): Promise<CheckResult[]> {
  return diagnoseHost(file, async config => {
    try {
      await requestAgent(findSocket({ config: file }), 'GET', '/runs?limit=1');
      return passed('the agent', `runs, and answers on its socket in ${config.state_dir}`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return failed(
        'the agent',
        `${error.code}: ${error.message}`,
        'Start it: systemctl start chatops-agent, or chatops agent --config FILE.',
      );
    }
  });
}

function formatResult({ check, state, says, remedy }: CheckResult): string {
  const mark = { good: '✓', bad: '✗', skipped: '–' }[state];
  return `${mark} ${check}: ${says}${remedy === undefined ? '' : `\n    ${remedy}`}`;
}
