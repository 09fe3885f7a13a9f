"""The ledger as Relay 0.1 has it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('aliases',
    sa.Column('resource', sa.String(length=20), nullable=False),
    sa.Column('alias', sa.String(length=255), nullable=False),
    sa.Column('subject', sa.String(length=255), nullable=False),
    sa.PrimaryKeyConstraint('resource', 'alias', name='pk_aliases')
    )
    op.create_table('audit',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('actor', sa.String(length=100), nullable=False),
    sa.Column('action', sa.String(length=40), nullable=False),
    sa.Column('target', sa.String(length=255), nullable=False),
    sa.Column('detail', sa.String(length=500), server_default='', nullable=False),
    sa.PrimaryKeyConstraint('id', name='pk_audit')
    )
    op.create_table('events',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('name', sa.String(length=100), nullable=False),
    sa.Column('identity', sa.String(length=100), nullable=False),
    sa.Column('data', sa.JSON(), nullable=False),
    sa.Column('status', sa.String(length=20), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('duplicates', sa.Integer(), server_default='0', nullable=False),
    sa.Column('subject', sa.String(length=255), nullable=True),
    sa.Column('round', sa.Integer(), server_default='0', nullable=False),
    sa.Column('facts', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('decisions', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('reason', sa.String(length=500), server_default='', nullable=False),
    sa.Column('urgency', sa.Integer(), server_default='0', nullable=False),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('next_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('processed_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name='pk_events'),
    sa.UniqueConstraint('identity', name='uq_events_identity')
    )
    op.create_index('ix_events_due', 'events', [sa.literal_column('urgency DESC'), 'next_at'], unique=False, postgresql_where=sa.text("status = 'received'"), sqlite_where=sa.text("status = 'received'"))
    op.create_index('ix_events_subject', 'events', ['subject'], unique=False)
    op.create_table('heartbeats',
    sa.Column('name', sa.String(length=100), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('name', name='pk_heartbeats')
    )
    op.create_table('journeys',
    sa.Column('subject', sa.String(length=255), nullable=False),
    sa.Column('resource', sa.String(length=20), nullable=False),
    sa.Column('order_subject', sa.String(length=255), nullable=True),
    sa.Column('original_subject', sa.String(length=255), nullable=True),
    sa.Column('round', sa.Integer(), server_default='0', nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('subject', name='pk_journeys')
    )
    op.create_index('ix_journeys_order', 'journeys', ['order_subject'], unique=False)
    op.create_index('ix_journeys_original', 'journeys', ['original_subject'], unique=False)
    op.create_table('quarantine',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('error', sa.String(length=500), nullable=False),
    sa.Column('fields', sa.JSON(), nullable=False),
    sa.Column('posts', sa.Integer(), server_default='1', nullable=False),
    sa.Column('first_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('event_id', sa.String(length=40), nullable=True),
    sa.PrimaryKeyConstraint('id', name='pk_quarantine'),
    sa.UniqueConstraint('digest', name='uq_quarantine_digest')
    )
    op.create_table('suppressions',
    sa.Column('channel', sa.String(length=20), nullable=False),
    sa.Column('address', sa.String(length=255), nullable=False),
    sa.Column('source', sa.String(length=100), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('channel', 'address', name='pk_suppressions')
    )
    op.create_table('notifications',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('event_id', sa.String(length=40), nullable=False),
    sa.Column('rule', sa.String(length=100), nullable=False),
    sa.Column('template', sa.String(length=100), nullable=False),
    sa.Column('subject', sa.String(length=255), nullable=False),
    sa.Column('round', sa.Integer(), server_default='0', nullable=False),
    sa.Column('role', sa.String(length=100), nullable=False),
    sa.Column('channel', sa.String(length=20), nullable=False),
    sa.Column('address', sa.String(length=255), nullable=False),
    sa.Column('identity', sa.String(length=64), nullable=False),
    sa.Column('family', sa.String(length=64), nullable=False),
    sa.Column('status', sa.String(length=20), nullable=False),
    sa.Column('reason', sa.String(length=500), server_default='', nullable=False),
    sa.Column('urgency', sa.Integer(), server_default='0', nullable=False),
    sa.Column('is_fallback', sa.Boolean(), server_default=sa.false(), nullable=False),
    sa.Column('attempts', sa.Integer(), server_default='0', nullable=False),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('provider_id', sa.String(length=100), nullable=True),
    sa.Column('content', sa.JSON(none_as_null=True), nullable=True),
    sa.ForeignKeyConstraint(['event_id'], ['events.id'], name='fk_notifications_event_id'),
    sa.PrimaryKeyConstraint('id', name='pk_notifications'),
    sa.UniqueConstraint('identity', name='uq_notifications_identity')
    )
    op.create_index('ix_notifications_created', 'notifications', ['created_at'], unique=False)
    op.create_index('ix_notifications_due', 'notifications', ['channel', sa.literal_column('urgency DESC'), 'due_at'], unique=False, postgresql_where=sa.text("status IN ('created', 'scheduled')"), sqlite_where=sa.text("status IN ('created', 'scheduled')"))
    op.create_index('ix_notifications_event', 'notifications', ['event_id'], unique=False)
    op.create_index('ix_notifications_family', 'notifications', ['family'], unique=False)
    op.create_index('ix_notifications_leased', 'notifications', ['lease_until'], unique=False, postgresql_where=sa.text("status = 'sending'"), sqlite_where=sa.text("status = 'sending'"))
    op.create_index('ix_notifications_subject', 'notifications', ['subject'], unique=False)
    op.create_table('attempts',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('notification_id', sa.String(length=40), nullable=False),
    sa.Column('channel', sa.String(length=20), nullable=False),
    sa.Column('outcome', sa.String(length=20), nullable=False),
    sa.Column('provider_id', sa.String(length=100), nullable=True),
    sa.Column('code', sa.String(length=40), server_default='', nullable=False),
    sa.Column('detail', sa.String(length=500), server_default='', nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['notification_id'], ['notifications.id'], name='fk_attempts_notification_id'),
    sa.PrimaryKeyConstraint('id', name='pk_attempts')
    )
    op.create_index('ix_attempts_day', 'attempts', ['channel', 'started_at'], unique=False)
    op.create_index('ix_attempts_notification', 'attempts', ['notification_id'], unique=False)


def downgrade() -> None:
    for table in (
        *("attempts", "notifications", "events", "quarantine", "journeys"),
        *("aliases", "suppressions", "audit", "heartbeats"),
    ):
        op.drop_table(table)
