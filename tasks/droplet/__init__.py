"""The tool `droplet`: commands and files on remote hosts over SSH.

A tenant's roots (`droplet.tenants.NAME.roots`) hold back paths that lead outside by their spelling or by a link that
lies there. They are no wall against somebody who runs commands on the host, or changes folders into links there at the
right moment: SFTP opens by name, and the host follows links with the rights of the remote user. Tenants that must be
kept apart need remote users of their own.
"""

from tasks.droplet.changes import make_directory, write_file
from tasks.droplet.commands import run
from tasks.droplet.download import download
from tasks.droplet.files import read_file, stat
from tasks.droplet.groups import run_group
from tasks.droplet.hosts import Hosts
from tasks.droplet.jobs import job_kill, job_list, job_poll, job_start
from tasks.droplet.listing import list_directory
from tasks.droplet.moves import delete, move
from tasks.droplet.remembered import tag_values
from tasks.droplet.status import host_status, list_hosts
from tasks.droplet.upload import upload
from tasks.operation import Tool

TOOL = Tool(
    name="droplet",
    open=Hosts.open,
    target=Hosts.target,
    tag_values=tag_values,
    operations=(
        list_hosts,
        host_status,
        run,
        run_group,
        job_start,
        job_poll,
        job_kill,
        job_list,
        read_file,
        write_file,
        stat,
        list_directory,
        make_directory,
        move,
        delete,
        upload,
        download,
    ),
)
