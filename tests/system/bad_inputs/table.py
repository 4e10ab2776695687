"""All bad inputs."""

from tests.system.bad_inputs import command_cases, data_cases, params_cases, weight_cases

CASES = [*params_cases.CASES, *data_cases.CASES, *weight_cases.CASES, *command_cases.CASES]
