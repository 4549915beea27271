"""The manifests as they are applied: valid for the oldest and the newest Kubernetes, restricted, one with the code."""

import base64
import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from job import ending, errors
from job.command_line.options import environment_of
from job.limits.need import OTHER_PROCESS_NBYTES, memory_of_w
from job.models.lists import read_list
from job.report.plan_table import kubernetes_limits
from job.settings import Settings, read_settings
from tests.manifests.pod_security import violations
from tests.manifests.rendering import (
    APPLIED,
    BASE,
    MANIFESTS,
    NEWEST,
    OLDEST,
    Document,
    containers,
    environment,
    job_spec,
    of_kind,
    pod_templates,
    render,
    rendered,
    survey_container,
)
from tests.manifests.rules import broken, quantity

CLOUD, LOCAL, SCHEDULED = (MANIFESTS / "overlays" / name for name in ("cloud", "local", "scheduled"))
MAX_ROWS, MAX_NBYTES = 262_208, 6_000_000_000
"""The longest and the largest W known: Gemma 3's rows, and a matrix of that size in F32 with 5,376 columns."""

applied = pytest.mark.parametrize("folder", APPLIED, ids=lambda folder: folder.name)


def overlay(folder: Path, **kustomization: object) -> Path:
    """A kustomization of a user's own, in a new folder."""
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def relative(target: Path, folder: Path) -> str:
    return os.path.relpath(target, folder)


@applied
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_document_is_what_the_schemas_of_the_oldest_and_the_newest_kubernetes_allow(
    folder: Path, version: str
) -> None:
    for document in render(folder):
        assert kubernetes_validate.validate(document, version, strict=True).startswith(version)


@applied
def test_no_document_breaks_a_rule_that_schemas_do_not_hold(folder: Path) -> None:
    assert list(broken(render(folder))) == []


@applied
def test_every_pod_is_restricted_reads_only_its_root_and_holds_no_token_of_the_cluster(folder: Path) -> None:
    templates = list(pod_templates(render(folder)))
    assert templates
    for pod in (template["spec"] for template in templates):
        assert list(violations(pod)) == []
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers(pod))


@applied
def test_the_failure_policy_is_that_of_the_exit_statuses(folder: Path) -> None:
    disruption, *by_status = job_spec(render(folder))["podFailurePolicy"]["rules"]
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert [(rule["action"], rule["onExitCodes"]) for rule in by_status] == [
        (action, {"containerName": "survey", "operator": "In", "values": [kind.exit_status]})
        for action, kind in (("FailJob", errors.ConfigError), ("FailIndex", errors.ModelError))
    ]


@applied
def test_a_stopped_worker_has_the_time_that_it_takes(folder: Path) -> None:
    grace = job_spec(render(folder))["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > ending.GRACE_SECONDS


@applied
def test_every_variable_is_a_setting(folder: Path) -> None:
    container = survey_container(render(folder))
    parts = set(re.findall(r"\$\((\w+)\)", " ".join(environment(container).values())))
    names = {variable["name"] for variable in container["env"]} - parts
    assert {name for name in names if not name.startswith("AWS_")} <= environment_of(Settings)


@applied
def test_the_settings_of_the_workers_fit_the_pod_and_are_accepted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = render(folder)
    container, spec = survey_container(documents), job_spec(documents)
    variables = environment(container)
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert Path(variables["MODELS_FILE"]).parent == mounts["models"]
    assert variables["TERMINATION_MESSAGE"] == container.get("terminationMessagePath", "/dev/termination-log")

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # What Kubernetes puts in, and a list that is surely there.
    (tmp_path / "models.txt").write_text("org/name")
    given = {"MODELS_FILE": str(tmp_path / "models.txt"), "JOB_COMPLETION_INDEX": str(spec["completions"] - 1)}
    for name, value in {**given, "RUN": "black-hole-survey-5bd6ac24-0001"}.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([])
    assert (settings.worker, settings.workers) == (spec["completions"] - 1, spec["completions"])
    assert settings.output.startswith("s3://")


@applied
def test_every_job_object_has_a_run_of_its_own(folder: Path) -> None:
    variables = {variable["name"]: variable for variable in survey_container(render(folder))["env"]}
    assert variables["RUN"]["value"] == "$(JOB_NAME)-$(JOB_UID)"
    labels = {name: variables[name]["valueFrom"]["fieldRef"]["fieldPath"] for name in ("JOB_NAME", "JOB_UID")}
    assert labels == {
        "JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
        "JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
    }


@applied
def test_the_list_is_one_that_the_job_reads(folder: Path, tmp_path: Path) -> None:
    (models,) = of_kind(render(folder), "ConfigMap")
    (tmp_path / "models.yaml").write_text(models["data"]["models.yaml"])
    assert read_list(tmp_path / "models.yaml")


def test_the_limits_are_what_a_plan_states_for_the_largest_matrix_known() -> None:
    settings = read_settings(["org/name"])
    of_w = memory_of_w((MAX_ROWS, 1), MAX_NBYTES, settings.dedup, settings.connections, settings.parts)
    memory = OTHER_PROCESS_NBYTES + of_w
    stated = kubernetes_limits({"memory_nbytes": memory, "scratch_nbytes": MAX_NBYTES})
    resources = survey_container(render(BASE))["resources"]
    for resource, name in (("ephemeral-storage", "ephemeral_storage"), ("memory", "memory")):
        assert resources["requests"][resource] == stated[name]
    assert resources["limits"]["ephemeral-storage"] == stated["ephemeral_storage"]
    floor, limit = quantity(stated["memory"]), quantity(resources["limits"]["memory"])
    assert floor is not None
    assert limit is not None
    assert floor <= limit <= 2 * floor


@applied
def test_the_job_is_told_how_much_scratch_it_may_have(folder: Path) -> None:
    container = survey_container(render(folder))
    (limit,) = (variable["valueFrom"] for variable in container["env"] if variable["name"] == "SCRATCH_LIMIT")
    reference = {"containerName": "survey", "resource": "limits.ephemeral-storage", "divisor": "1"}
    assert limit == {"resourceFieldRef": reference}
    assert "ephemeral-storage" in container["resources"]["limits"]


def test_the_pod_is_the_images_user_and_mounts_the_images_scratch() -> None:
    dockerfile = (MANIFESTS.parent / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\d+):\1$", dockerfile, re.MULTILINE)
    (scratch,) = re.findall(r"\bSCRATCH=(\S+)", dockerfile)
    pod = job_spec(render(BASE))["template"]["spec"]
    assert {str(pod["securityContext"][name]) for name in ("runAsUser", "runAsGroup", "fsGroup")} == {user}
    assert scratch in [mount["mountPath"] for mount in survey_container(render(BASE))["volumeMounts"]]


@applied
def test_secrets_are_only_referred_to(folder: Path) -> None:
    documents = render(folder)
    secret = re.compile("TOKEN|SECRET|ACCESS_KEY|PASSWORD")
    for template in pod_templates(documents):
        for container in containers(template["spec"]):
            assert not [name for name in environment(container) if secret.search(name)]
    # The one exception: the keys of the S3 server that lives and dies beside the Job.
    secrets = [{name: base64.b64decode(text) for name, text in s["data"].items()} for s in of_kind(documents, "Secret")]
    local_only = {"AWS_ACCESS_KEY_ID": b"local", "AWS_SECRET_ACCESS_KEY": b"local-only"}
    assert secrets == ([local_only] if folder == LOCAL else [])


def test_the_cloud_knows_no_static_keys() -> None:
    assert "AWS_ACCESS_KEY_ID" not in rendered(CLOUD)
    container = survey_container(render(CLOUD))
    assert "envFrom" not in container
    (token,) = (variable for variable in container["env"] if variable["name"] == "HF_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["optional"] is True
    (account,) = of_kind(render(CLOUD), "ServiceAccount")
    assert account["metadata"]["annotations"].keys() == {"eks.amazonaws.com/role-arn"}


def without_list(spec: Document) -> Document:
    """The spec, but for the name of its list, which ends in the list's own hash."""
    for volume in spec["template"]["spec"]["volumes"]:
        volume.pop("configMap", None)
    return spec


def test_the_schedule_starts_the_same_job_and_never_two_at_once() -> None:
    documents = render(SCHEDULED)
    (cron,) = of_kind(documents, "CronJob")
    assert not of_kind(documents, "Job")
    assert without_list(job_spec(documents)) == without_list(job_spec(render(BASE)))
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


def test_a_scheduled_job_that_hangs_has_ended_when_the_next_is_due() -> None:
    (cron,) = of_kind(render(SCHEDULED), "CronJob")
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron["spec"]["schedule"]), "daily"
    spec = job_spec(render(SCHEDULED))
    assert spec["activeDeadlineSeconds"] + spec["template"]["spec"]["terminationGracePeriodSeconds"] < 24 * 3600


@applied
def test_every_job_has_a_deadline(folder: Path) -> None:
    assert job_spec(render(folder))["activeDeadlineSeconds"] == job_spec(render(BASE))["activeDeadlineSeconds"]


def test_the_schedule_joins_any_overlay(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    component = MANIFESTS / "components/scheduled"
    overlay(folder, resources=[relative(CLOUD, folder)], components=[relative(component, folder)])
    documents = render(folder)
    assert list(broken(documents)) == []
    assert without_list(job_spec(documents)) == without_list(job_spec(render(CLOUD)))
    assert "AWS_ACCESS_KEY_ID" not in rendered(folder)


def test_a_patch_of_the_job_beside_its_schedule_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    patch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "black-hole-survey"},
        "spec": {"parallelism": 1},
    }
    overlay(
        folder,
        resources=[relative(CLOUD, folder)],
        components=[relative(MANIFESTS / "components/scheduled", folder)],
        patches=[{"patch": yaml.safe_dump(patch)}],
    )
    with pytest.raises(subprocess.CalledProcessError):
        render(folder)


@applied
def test_the_image_is_named_in_one_place(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    image = {"name": "black-hole-survey", "newName": "registry.example/team/survey", "newTag": "1.2"}
    overlay(mine, resources=[relative(folder, mine)], images=[image])
    images = [c["image"] for template in pod_templates(render(mine)) for c in containers(template["spec"])]
    assert {name for name in images if "seaweedfs" not in name} == {"registry.example/team/survey:1.2"}


def test_the_number_of_workers_stands_in_one_place_of_the_base(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in BASE.iterdir():
        (folder / file.name).write_text(file.read_text().replace("completions: 4", "completions: 12"))
    assert job_spec(render(folder))["completions"] == 12
    assert environment(survey_container(render(folder)))["JOB_COMPLETIONS"] == "12"
    assert list(broken(render(folder))) == []


def test_the_local_namespace_enforces_what_its_pods_are() -> None:
    (namespace,) = of_kind(render(LOCAL), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {d["metadata"].get("namespace") for d in render(LOCAL) if d["kind"] != "Namespace"} == {
        namespace["metadata"]["name"]
    }


def test_the_local_server_makes_the_bucket_that_the_job_writes_to_and_is_ready_when_it_is_there() -> None:
    documents = render(LOCAL)
    (deployment,) = of_kind(documents, "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = environment(survey_container(documents))
    bucket = variables["OUTPUT"].removeprefix("s3://").split("/")[0]
    assert f"-bucket={bucket}" in server["command"]
    assert server["readinessProbe"]["httpGet"]["path"] == f"/buckets/{bucket}/"
    (service,) = of_kind(documents, "Service")
    port = service["spec"]["ports"][0]["port"]
    assert variables["AWS_ENDPOINT_URL"] == f"http://{service['metadata']['name']}:{port}"
