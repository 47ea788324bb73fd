import { parseArgs } from 'node:util';
import { Refused } from '../../protocol/refusal.ts';
import { type CheckResult, diagnoseHost, failed, passed } from '../diagnostics/doctor.ts';
import { AGENT_OPTIONS, findSocket, requestAgent } from './local-client.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

/** Looks at everything that an agent needs, and says what to do about what is wrong. */
export async function doctorCommand(args: string[]): Promise<number> {
  const { config, json } = AGENT_OPTIONS;
  const { values } = parseArgs({ args, options: { config, json, ...REMOTE_OPTIONS } });
  const findings: CheckResult[] =
    (await createRemoteAgent(values)?.ask({ about: 'doctor' })) ?? (await diagnoseLocally(values.config));
  if (values.json) console.log(JSON.stringify(findings, null, 2));
  else for (const one of findings) console.log(formatFinding(one));
  return findings.some(({ state }) => state === 'bad') ? 1 : 0;
}

function diagnoseLocally(file: string): Promise<CheckResult[]> {
  return diagnoseHost(file, async config => {
    try {
      await requestAgent(findSocket({ config: file }), 'GET', '/runs?limit=1');
      return passed('the agent', `runs, and answers at its socket in ${config.state_dir}`);
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

function formatFinding({ check, state, says, remedy }: CheckResult): string {
  const mark = { good: '✓', bad: '✗', skipped: '–' }[state];
  return `${mark} ${check}: ${says}${remedy === undefined ? '' : `\n    ${remedy}`}`;
}
